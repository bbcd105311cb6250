//! How a command ends when it does not succeed: an exit code, and what to say.

use std::fmt;
use std::io::{self, Write};

/// The exit code for a failure of hull or its daemon in `run` and `create`, and for a command
/// line that cannot be parsed; everything below is the container's own.
pub(crate) const OWN_FAILURE: u8 = 125;

/// A command's exit code when it is not zero.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) code: u8,
    /// What to print on standard error; nothing when everything has been said.
    pub(crate) error: Option<anyhow::Error>,
}

/// What a command returns.
pub(crate) type CommandResult = Result<(), Failure>;

impl Failure {
    /// Prints `error` and exits with `code`.
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: Some(error.into()),
        }
    }

    /// Exits with `code` and says nothing.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, error: None }
    }

    /// A shell's way to say that a signal ended the process.
    pub(crate) fn killed_by(signal: i32, name: &str) -> Self {
        let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
        Self::new(code, anyhow::anyhow!("ended by {name}"))
    }

    /// The container's exit code becomes ours.
    pub(crate) fn from_status(status: i64) -> CommandResult {
        match status {
            0 => Ok(()),
            // Exit codes of processes are bytes; the daemon's would be a mistake if not.
            _ => Err(Self::silent(
                u8::try_from(status & 0xff).unwrap_or(OWN_FAILURE).max(1),
            )),
        }
    }
}

/// Any error ends a command with 1, as Docker's commands do.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(1, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error:#}"),
            None => write!(f, "exit code {}", self.code),
        }
    }
}

/// Prints a line to standard error. Nobody can be told when that does not work.
pub(crate) fn complain(message: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{message}");
}
