//! A container's log: a file of JSON lines as Docker's json-file driver writes it.
//!
//! Beyond Docker's fields every line says up to which byte of its stream it goes, counted before the conversion to
//! UTF-8. With it an engine that was started again asks the agent for just what the log does not have yet.
//!
//! A log with a bound goes on in another file when one is full, and only so many are kept. Places in it are counted from
//! the beginning of the first file there ever was.

mod files;
mod reader;
mod record;
mod recover;
mod spec;
mod tail;
mod writer;

pub(crate) use files::LogFiles;
pub(crate) use reader::Follow;
pub use reader::LogReader;
pub(crate) use recover::recover;
pub use spec::{LogDriver, LogSpec};
pub(crate) use spec::{LogForm, Rotation};
pub(crate) use writer::LogWriter;

/// The longest piece of a line that one record holds; longer lines are several records.
pub(crate) const MAX_RECORD: usize = 16 * 1024;

/// Up to which byte of each stream something goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

impl Offsets {
    pub(crate) fn get(&self, stream: crate::OutputStream) -> u64 {
        match stream {
            crate::OutputStream::Stdout => self.stdout,
            crate::OutputStream::Stderr => self.stderr,
        }
    }

    /// The further of two in each stream.
    pub(crate) fn max(self, other: Offsets) -> Offsets {
        Offsets {
            stdout: self.stdout.max(other.stdout),
            stderr: self.stderr.max(other.stderr),
        }
    }

    pub(crate) fn get_mut(&mut self, stream: crate::OutputStream) -> &mut u64 {
        match stream {
            crate::OutputStream::Stdout => &mut self.stdout,
            crate::OutputStream::Stderr => &mut self.stderr,
        }
    }
}
