//! Why a sandbox could not be used.

use std::io;
use std::path::{Path, PathBuf};

use guest_protocol::{CallError, FrameError, TaskFailure};

use crate::SandboxEnd;

/// Why a microVM could not be started or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A file the microVM needs, or its folder for sockets, could not be used.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The path of a socket would be too long.
    #[error("the path {} is too long for a unix socket (107 bytes): choose a shorter runtime folder", .0.display())]
    PathTooLong(PathBuf),
    /// The VMM could not be spawned.
    #[error("run {}: {source}: is hull installed completely?", vmm.display())]
    Spawn {
        /// The program.
        vmm: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The agent did not come up.
    #[error("the microVM did not come up within {seconds} s{log}")]
    BootTimeout {
        /// How long it was waited for.
        seconds: u64,
        /// The end of the VMM's log, as a part of a sentence; empty if there is none.
        log: String,
    },
    /// The agent was there, and answers no more.
    #[error("the guest has not answered for {seconds} s")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The microVM has ended.
    #[error("the microVM has ended: {0}")]
    Ended(SandboxEnd),
    /// The microVM of a record does not run any more.
    #[error("process {pid} is not the VMM of {id} any more")]
    Gone {
        /// The microVM.
        id: String,
        /// The process id it had.
        pid: i32,
    },
    /// A connection to the VMM or the agent failed.
    #[error("{action}: {source}")]
    Connection {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What the agent or the VMM sent cannot be understood.
    #[error("{action}: {source}")]
    Protocol {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: FrameError,
    },
    /// What the agent or the VMM answered is not an answer to what it was asked.
    #[error("{action}: unexpected answer {answer}")]
    Unexpected {
        /// What was tried.
        action: &'static str,
        /// The answer.
        answer: String,
    },
    /// A task of the agent failed.
    #[error("{message}")]
    Task {
        /// What a program needs to know.
        failure: TaskFailure,
        /// What a person needs to know, in the guest's words.
        message: String,
    },
    /// The agent refused.
    #[error("{0}")]
    Guest(#[from] CallError),
}

/// The result of what a sandbox does.
pub type Result<T, E = SandboxError> = std::result::Result<T, E>;

impl SandboxError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn connection(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Connection { action, source }
    }

    pub(crate) fn protocol(action: &'static str) -> impl FnOnce(FrameError) -> Self {
        move |source| match source {
            FrameError::Io(source) => Self::Connection { action, source },
            source => Self::Protocol { action, source },
        }
    }
}
