//! Starting a process: pipes, the fork into the container's namespaces and cgroup, and the first steps in there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use guest_protocol::{ContainerSpec, ProcessSpec, Task};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::archive::{self, TaskStdio};
use crate::container::Container;
use crate::os_error::{During, OsError};
use crate::sys::{Fork, fork_into};
use crate::user_namespace::{self, FIRST_ID};
use crate::{report, start, sys};

/// Asked for each pipe, so that a process that writes much and the agent take turns less often.
const PIPE_SIZE: usize = 256 * 1024;

/// Where a process belongs.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// It becomes the container's init, in new namespaces.
    Init,
    /// It joins the namespaces of the init that this pidfd names.
    Join(BorrowedFd<'a>),
}

/// A process on its way to its program.
pub(crate) struct Launched {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// Where its [`report::Report`]s come from.
    pub(crate) report: OwnedFd,
    /// The agent's ends of the pipes; none of them with a terminal, which comes as a report.
    pub(crate) pipes: Pipes,
}

/// The agent's ends.
#[derive(Default)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// What the process has as stdin, stdout and stderr.
pub(crate) enum Stdio {
    Pipes([OwnedFd; 3]),
    /// It opens one in the container.
    Terminal,
}

/// Forks a process off. What goes wrong in it is reported, not returned.
pub(crate) fn launch(
    container: &ContainerSpec,
    process: &ProcessSpec,
    cgroup: BorrowedFd<'_>,
    place: Place<'_>,
) -> Result<Launched, OsError> {
    let (pipes, stdio) = if process.terminal.is_some() {
        (Pipes::default(), Stdio::Terminal)
    } else {
        make_pipes(process.stdin, container.namespaces.user).during("make", "the pipes of the process")?
    };
    let (report, reporter) = report::channel().during("make", "the report socket")?;
    match fork(place, container, cgroup).during("fork", "the process")? {
        Fork::Child => start::run(container, process, place, stdio, reporter),
        Fork::Parent { pid, pidfd } => {
            if container.namespaces.user && matches!(place, Place::Init) {
                user_namespace::map_ids(pid)?;
                report::release(&report).during("release", "the process")?;
            }
            Ok(Launched {
                pid,
                pidfd,
                report,
                pipes,
            })
        }
    }
}

/// Forks a task off, into a mount namespace of its own.
pub(crate) fn launch_task(container: &Container, task: &Task) -> Result<Launched, OsError> {
    let (pipes, stdio) =
        make_pipes(archive::has_input(task), false).during("make", "the pipes of the task")?;
    // A task reports nothing: it is started when its end is closed.
    let (report, reporter) = report::channel().during("make", "the report socket")?;
    match (
        fork_into(libc::CLONE_NEWNS, None).during("fork", "the task")?,
        stdio,
    ) {
        (Fork::Child, Stdio::Pipes([stdin, stdout, stderr])) => {
            drop((pipes, report, reporter));
            archive::run(
                container,
                task,
                TaskStdio {
                    stdin,
                    stdout,
                    stderr,
                },
            )
        }
        (Fork::Child, Stdio::Terminal) => sys::exit(1),
        (Fork::Parent { pid, pidfd }, _) => Ok(Launched {
            pid,
            pidfd,
            report,
            pipes,
        }),
    }
}

fn make_pipes(has_stdin: bool, user_namespace: bool) -> Result<(Pipes, Stdio), Errno> {
    let (stdin, process_stdin) = if has_stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        (Some(ours(write)?), read)
    } else {
        (
            None,
            open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
        )
    };
    let (stdout, process_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, process_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    if user_namespace {
        // From within, only what belongs to an id of the container can be given to another.
        let root = (Some(Uid::from_raw(FIRST_ID)), Some(Gid::from_raw(FIRST_ID)));
        let piped = [
            has_stdin.then_some(&process_stdin),
            Some(&process_stdout),
            Some(&process_stderr),
        ];
        for pipe in piped.into_iter().flatten() {
            fchown(pipe, root.0, root.1)?;
        }
    }
    let pipes = Pipes {
        stdin,
        stdout: Some(ours(stdout)?),
        stderr: Some(ours(stderr)?),
    };
    Ok((
        pipes,
        Stdio::Pipes([process_stdin, process_stdout, process_stderr]),
    ))
}

/// The agent's end of a pipe never waits; the process's end does, as programs expect.
fn ours(end: OwnedFd) -> Result<OwnedFd, Errno> {
    fcntl_setfl(&end, fcntl_getfl(&end)? | OFlags::NONBLOCK)?;
    // A size the kernel refuses is no reason not to start.
    let _ = fcntl_setpipe_size(&end, PIPE_SIZE);
    Ok(end)
}

fn fork(place: Place<'_>, container: &ContainerSpec, cgroup: BorrowedFd<'_>) -> Result<Fork, Errno> {
    match place {
        Place::Init => {
            let mut namespaces =
                libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
            if container.namespaces.user {
                namespaces |= libc::CLONE_NEWUSER;
            }
            fork_into(namespaces, Some(cgroup))
        }
        Place::Join(init) => {
            // A pid namespace is joined by children only: the agent steps over for the moment of the fork.
            let own = pidfd_open(getpid(), PidfdFlags::empty())?;
            move_into_thread_name_spaces(init, ThreadNameSpaceType::PROCESS_ID)?;
            let fork = fork_into(0, Some(cgroup));
            if !matches!(fork, Ok(Fork::Child)) {
                move_into_thread_name_spaces(own.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
            }
            fork
        }
    }
}
