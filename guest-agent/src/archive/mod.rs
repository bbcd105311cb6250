//! Tasks: processes that are the agent itself, at work on the container's file system for the host.
//!
//! A task sees the container's root as Docker's `cp` does: the root file system and the volumes, without `/proc`, `/dev`
//! and `/sys`, without what the container mounted itself, and in a mount namespace of its own, so that it does not
//! matter whether the container runs. All paths are resolved beneath that root.

mod changes;
mod fill;
mod inspect;
mod layer;
mod owners;
mod pack;
mod remove;
mod trees;
mod unpack;
mod walk;
mod xattrs;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use guest_protocol::{ContainerSpec, FrameError, MAX_TASK_MESSAGE, Task, TaskFailure};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;
use tar_stream::{ArchiveError, WriteError};

use crate::capabilities::{CapabilitySet, UnknownCapability};
use crate::container::Container;
use crate::os_error::{During, OsError};
use crate::processes::{self, ListError};
use crate::sockets::{self, AcceptError};
use crate::sys;
use crate::user::UserError;
use crate::view::ViewError;

/// What a task may do beyond an ordinary user: read and write every file, give files away, make devices, and see
/// overlayfs's own attributes.
const CAPABILITIES: [&str; 7] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
];

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    #[error("there is nothing at {0}")]
    NotFound(String),
    #[error("{0} has more symbolic links than anybody follows")]
    TooManyLinks(String),
    // The next four are Docker's words.
    #[error("extraction point is not a directory")]
    NotDirectory,
    #[error("container rootfs is marked read-only")]
    ReadOnlyRoot,
    #[error("mounted volume is marked read-only")]
    ReadOnlyVolume,
    #[error("cannot overwrite {old} {path:?} with {new}")]
    Kind {
        path: String,
        old: &'static str,
        new: &'static str,
    },
    #[error("{path:?} is outside of {destination:?}")]
    Outside { path: String, destination: String },
    #[error("{0:?} lies deeper than {max} directories", max = remove::MAX_DEPTH)]
    TooDeep(String),
    #[error("the id {0} is beyond those of the container's user namespace")]
    Owner(u32),
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("the archive is compressed with {0}: decompress it first")]
    Compressed(&'static str),
    #[error("the container has no folder of the host as its mount {0}")]
    NoMount(u32),
    #[error("the container has no socket {0}")]
    NoSocket(u32),
    #[error(transparent)]
    Accept(#[from] AcceptError),
    #[error("the agent panicked while it read the image")]
    Reader,
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Output(#[from] WriteError),
    #[error("cannot write the answer: {0}")]
    Answer(#[from] FrameError),
    #[error(transparent)]
    Processes(#[from] ListError),
}

impl TaskError {
    fn failure(&self) -> TaskFailure {
        match self {
            Self::NotFound(_) => TaskFailure::NotFound,
            Self::NotDirectory | Self::Compressed(_) => TaskFailure::Invalid,
            Self::ReadOnlyRoot | Self::ReadOnlyVolume => TaskFailure::ReadOnly,
            Self::User(_) => TaskFailure::NoSuchUser,
            _ => TaskFailure::Other,
        }
    }
}

type Result<T, E = TaskError> = std::result::Result<T, E>;

/// The standard streams of a task.
pub(crate) struct TaskStdio {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Whether a task reads something.
pub(crate) fn has_input(task: &Task) -> bool {
    matches!(task, Task::Write(_) | Task::Accept { .. })
}

/// Carries out a task in a process of its own and ends it. Needs a new mount namespace.
pub(crate) fn run(container: &Container, task: &Task, stdio: TaskStdio) -> ! {
    let TaskStdio {
        stdin,
        stdout,
        stderr,
    } = stdio;
    // Unwinding further would leave two agents.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let listener = listener(container, task)?;
        // Whoever waits for the end of a stream of another process would wait for the end of the task, too.
        let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        sys::close_all_but(&[&own[..], listener.as_slice()].concat())
            .during("close", "the agent's descriptors")?;
        carry_out(
            &container.spec,
            task,
            listener,
            File::from(stdin),
            File::from(stdout),
        )
    }));
    let (failure, message) = match outcome {
        Ok(Ok(())) => sys::exit(0),
        Ok(Err(error)) => (error.failure(), error.to_string()),
        Err(_) => (TaskFailure::Other, "the agent panicked at it".into()),
    };
    let message = &message.as_bytes()[..message.len().min(MAX_TASK_MESSAGE)];
    // Nobody can be told when nobody reads.
    let _ = File::from(stderr).write_all(message);
    sys::exit(failure.code())
}

/// What a task listens on, if it does.
fn listener<'a>(container: &'a Container, task: &Task) -> Result<Option<BorrowedFd<'a>>> {
    match task {
        Task::Accept { socket } => {
            let listener = container.sockets.listener(*socket);
            listener.map(Some).ok_or(TaskError::NoSocket(*socket))
        }
        _ => Ok(None),
    }
}

fn carry_out(
    container: &ContainerSpec,
    task: &Task,
    listener: Option<BorrowedFd<'_>>,
    input: File,
    output: File,
) -> Result<()> {
    // It is a copy of the agent: nobody in the container is to look into it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during("protect", "the task")?;
    match task {
        Task::Export => {
            let root = trees::bare_root()?;
            restrict()?;
            pack::export(container, &root, output)
        }
        Task::Stat { path } => {
            let root = trees::full_root(container)?;
            restrict()?;
            inspect::stat(&root, path, output)
        }
        Task::Read { path } => {
            let root = trees::full_root(container)?;
            restrict()?;
            pack::read(container, &root, path, output)
        }
        Task::Write(spec) => {
            let root = trees::full_root(container)?;
            restrict()?;
            unpack::unpack(container, &root, spec, input)
        }
        Task::Fill(spec) => {
            let places = fill::Places::open(container, spec)?;
            restrict()?;
            places.copy(container)
        }
        Task::Changes => {
            let layers = trees::layers(container)?;
            restrict()?;
            changes::changes(container, &layers, output)
        }
        Task::Layer => {
            let layers = trees::layers(container)?;
            restrict()?;
            layer::layer(container, &layers, output)
        }
        Task::Accept { socket } => {
            restrict_to(&[])?;
            let listener = listener.ok_or(TaskError::NoSocket(*socket))?;
            Ok(sockets::accept(listener, input, output)?)
        }
        Task::Processes => {
            restrict()?;
            Ok(processes::list(output)?)
        }
    }
}

/// Gives up what a task does not need.
fn restrict() -> Result<()> {
    restrict_to(&CAPABILITIES.map(String::from))
}

fn restrict_to(capabilities: &[String]) -> Result<()> {
    set_no_new_privs(true).during("set", "no_new_privs")?;
    let capabilities = CapabilitySet::from_names(capabilities)?;
    capabilities.bound().during("limit", "the capabilities")?;
    Ok(capabilities.take().during("take", "the capabilities")?)
}

/// Whether what was looked for has gone, or has become something else, while the container went on.
fn has_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// A path for people.
fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests;
