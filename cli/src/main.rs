//! `hull`: Docker's workflow, with every container in a microVM of its own. A client of the
//! Docker Engine API; see `ARCHITECTURE.md`.

mod api;
mod args;
mod bootstrap;
mod commands;
mod contexts;
mod credentials;
mod failure;
mod format;
mod installation;
mod progress;
mod signals;
mod stream;
mod template;
mod terminal;
mod time;

use std::ffi::OsStr;
use std::io;
use std::process::exit;

use clap::Parser;

use crate::failure::{CommandResult, Failure, OWN_FAILURE, complain};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() == Some(OsStr::new(bootstrap::SESSION_ARGUMENT)) {
        let Err(error) = bootstrap::become_session_leader(arguments);
        complain(format_args!("hull: {error}"));
        exit(OWN_FAILURE.into());
    }
    let code = match args::Arguments::try_parse() {
        Ok(arguments) => match run(arguments) {
            Ok(()) => 0,
            Err(failure) => report(&failure),
        },
        Err(error) => args::refuse(&error),
    };
    // Threads may be in a read of standard input that nobody can end.
    exit(code.into());
}

fn run(arguments: args::Arguments) -> CommandResult {
    // Everything waits for one socket or another: one thread is enough and the fastest to start.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let result = runtime.block_on(commands::execute(arguments));
    runtime.shutdown_background();
    result
}

fn report(failure: &Failure) -> u8 {
    let Some(error) = &failure.error else {
        return failure.code;
    };
    let broken_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    if broken_pipe {
        // The reader has gone, as `hull ps | head -1` makes it: end as the signal would.
        return 128 + 13;
    }
    complain(message(error));
    failure.code
}

/// The error and its causes, except for causes that the text in front of them tells already.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}
