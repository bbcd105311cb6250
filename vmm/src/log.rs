//! The log: lines on standard error, each with the microVM's id.
//!
//! A guest can make a device complain as often as it likes, so the number of lines is bounded.

use std::fmt::Arguments;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Lines after which the log stays silent.
const MAX_LINES: u32 = 1000;

static ID: OnceLock<String> = OnceLock::new();
static LINES: AtomicU32 = AtomicU32::new(0);

/// Sets the id of the microVM, once.
pub fn set_id(id: &str) {
    let _ = ID.set(id.to_owned());
}

/// Writes one line; see [`log!`].
pub fn write(message: Arguments<'_>) {
    let id = ID.get().map_or("-", String::as_str);
    match LINES.fetch_add(1, Ordering::Relaxed) {
        0..MAX_LINES => eprintln!("hull-vmm {id}: {message}"),
        MAX_LINES => eprintln!("hull-vmm {id}: more than {MAX_LINES} messages; the rest is left out"),
        // Lest the counter comes round.
        _ => LINES.store(MAX_LINES + 1, Ordering::Relaxed),
    }
}

/// Writes one line to the log, formatted as by `format!`.
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::write(format_args!($($argument)*)) };
}
pub(crate) use log;
