//! From the fork to the exec: all that a process of the container does to itself before it becomes its program.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use guest_protocol::{CallError, ContainerSpec, ErrorKind, Namespaces, ProcessSpec};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, open};
use rustix::io::{Errno, write};
use rustix::process::{DumpableBehavior, fchdir, ioctl_tiocsctty, set_dumpable_behavior, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    ThreadNameSpaceType, move_into_thread_name_spaces, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::capabilities::{CapabilitySet, UnknownCapability};
use crate::command::{self, CommandError};
use crate::launch::{Place, Stdio};
use crate::os_error::{During, OsError};
use crate::rlimits::RlimitError;
use crate::root::Root;
use crate::terminal::Terminal;
use crate::user::{self, Identity, UserError};
use crate::view::{self, ViewError};
use crate::{init, report, rlimits, seccomp, sys, user_namespace};

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    #[error(transparent)]
    Rlimit(#[from] RlimitError),
    #[error("the process's {0} holds a zero byte")]
    ZeroByte(&'static str),
}

impl From<&StartError> for CallError {
    fn from(error: &StartError) -> Self {
        let kind = match error {
            StartError::User(error) => error.kind(),
            StartError::Command(error) => error.kind(),
            _ => ErrorKind::Failed,
        };
        CallError {
            kind,
            message: error.to_string(),
        }
    }
}

/// Becomes the process; what goes wrong is reported and ends it.
pub(crate) fn run(
    container: &ContainerSpec,
    process: &ProcessSpec,
    place: Place<'_>,
    stdio: Stdio,
    reporter: OwnedFd,
) -> ! {
    // Unwinding further would leave two agents.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        become_program(container, process, place, stdio, &reporter)
    }));
    let failure = match outcome {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => CallError::from(&error),
        Err(_) => CallError {
            kind: ErrorKind::Failed,
            message: "the agent panicked while starting it".into(),
        },
    };
    report::send_failure(&reporter, &failure);
    sys::exit(1)
}

fn become_program(
    container: &ContainerSpec,
    process: &ProcessSpec,
    place: Place<'_>,
    stdio: Stdio,
    reporter: &OwnedFd,
) -> Result<Infallible, StartError> {
    // Until the exec this is a copy of the agent: nobody in the container is to look into it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during("protect", "the new process")?;
    if process.oom_score_adj != 0 {
        adjust_oom_score(process.oom_score_adj)?;
    }
    let root = enter(container, place, reporter)?;
    setsid().during("start", "a session")?;
    let identity = user::resolve(
        &process.user,
        &process.groups,
        &root.text("/etc/passwd")?,
        &root.text("/etc/group")?,
    )?;
    connect_stdio(process, &identity, place, stdio, &root, reporter)?;
    rlimits::apply(&process.rlimits)?;

    // The container's own was made with its view; what an exec asks for is there or not.
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    let directory = root.existing_directory(cwd)?;
    let entered = fchdir(&directory);
    sys::restore_signals();
    umask(Mode::from_raw_mode(0o022));
    restrict(process, &identity)?;
    // A directory that root may not enter (on a shared folder, say) may still be open to the user.
    entered
        .or_else(|_| fchdir(&directory))
        .during("change the working directory to", &process.cwd)?;
    drop(directory);

    let environment = environment(&process.env, &identity.home)?;
    let path = process
        .env
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="));
    let arguments = c_strings(&process.args, "arguments")?;
    let name = process.args.first().ok_or(CommandError::Empty)?;
    let program = command::find(name, path.unwrap_or(""))?;
    sys::close_from(3, true).during("close", "the agent's descriptors")?;
    if process.init {
        init::supervise(process.terminal.is_some()).during("fork", "the command")?;
    }
    let source = sys::execute(&program, &arguments, &environment);
    Err(CommandError::Refused {
        program: program.to_string_lossy().into_owned(),
        source,
    }
    .into())
}

/// Goes where the process belongs, and has its root directory there.
fn enter(container: &ContainerSpec, place: Place<'_>, reporter: &OwnedFd) -> Result<Root, StartError> {
    match place {
        Place::Init => {
            if container.namespaces.user {
                report::wait_for_release(reporter).during("wait for", "the ids of the user namespace")?;
                user_namespace::become_root()?;
            }
            if !container.namespaces.guest_cgroups {
                sys::new_cgroup_namespace().during("make", "a cgroup namespace")?;
            }
            Ok(view::enter(container)?)
        }
        Place::Join(pidfd) => {
            join(pidfd, container.namespaces).during("join", "the container's namespaces")?;
            if container.namespaces.user {
                user_namespace::become_root()?;
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Root::new(
                open("/", flags, Mode::empty()).during("open", "the container's root")?,
            ))
        }
    }
}

fn join(init: BorrowedFd<'_>, further: Namespaces) -> Result<(), Errno> {
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::CONTROL_GROUP;
    namespaces.set(ThreadNameSpaceType::USER, further.user);
    move_into_thread_name_spaces(init, namespaces)
}

fn adjust_oom_score(adjustment: i32) -> Result<(), OsError> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let file = open(FILE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).during("open", FILE)?;
    write(&file, adjustment.to_string().as_bytes())
        .during("write", format!("{adjustment} to {FILE}"))
        .map(drop)
}

fn connect_stdio(
    process: &ProcessSpec,
    identity: &Identity,
    place: Place<'_>,
    stdio: Stdio,
    root: &Root,
    reporter: &OwnedFd,
) -> Result<(), OsError> {
    let subject = "the standard streams";
    match (stdio, process.terminal) {
        (Stdio::Pipes([stdin, stdout, stderr]), _) => {
            if identity.uid != 0 {
                // Otherwise the user could not open /dev/stdout, which is a link to the pipe.
                let piped = [process.stdin.then_some(&stdin), Some(&stdout), Some(&stderr)];
                for pipe in piped.into_iter().flatten() {
                    fchown(pipe, Some(Uid::from_raw(identity.uid)), None::<Gid>)
                        .during("change the owner of", subject)?;
                }
            }
            replace_stdio(stdin.as_fd(), stdout.as_fd(), stderr.as_fd()).during("connect", subject)
        }
        (Stdio::Terminal, size) => {
            let terminal = Terminal::open(size.unwrap_or_default(), identity.uid)?;
            if matches!(place, Place::Init) {
                terminal.mount_as_console(root)?;
            }
            report::send_terminal(reporter, &terminal.controller).during("hand over", "the terminal")?;
            let side = terminal.process.as_fd();
            replace_stdio(side, side, side).during("connect", subject)?;
            ioctl_tiocsctty(side).during("take", "the controlling terminal")
        }
    }
}

fn replace_stdio(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Result<(), Errno> {
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)
}

/// Gives up what the process is not to have.
fn restrict(process: &ProcessSpec, identity: &Identity) -> Result<(), StartError> {
    let capabilities = CapabilitySet::from_names(&process.capabilities)?;
    if process.no_new_privileges {
        set_no_new_privs(true).during("set", "no_new_privs")?;
    }
    // Before the capabilities go: without no_new_privs the kernel asks for one of them.
    seccomp::apply(&process.seccomp, capabilities).during("install", "the seccomp filter")?;
    capabilities.bound().during("limit", "the capabilities")?;
    let groups: Vec<Gid> = identity
        .groups
        .iter()
        .map(|group| Gid::from_raw(*group))
        .collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups).during("set", "the supplementary groups")?;
    set_thread_res_gid(gid, gid, gid).during("become", format!("group {}", identity.gid))?;
    set_thread_res_uid(uid, uid, uid).during("become", format!("user {}", identity.uid))?;
    // For other users the kernel has just taken all of them away.
    if identity.uid == 0 {
        capabilities.take().during("take", "the capabilities")?;
    }
    Ok(())
}

/// The environment as the program gets it, `HOME` added where it is missing.
fn environment(variables: &[String], home: &str) -> Result<Vec<CString>, StartError> {
    let mut environment = c_strings(variables, "environment")?;
    if !variables.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.extend(c_strings(&[format!("HOME={home}")], "environment")?);
    }
    Ok(environment)
}

fn c_strings(strings: &[String], what: &'static str) -> Result<Vec<CString>, StartError> {
    let convert = |string: &String| CString::new(string.as_str()).map_err(|_| StartError::ZeroByte(what));
    strings.iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(environment: Vec<CString>) -> Vec<String> {
        environment
            .into_iter()
            .map(|variable| variable.into_string().unwrap())
            .collect()
    }

    #[test]
    fn home_is_added_only_where_it_is_missing() {
        let given = ["A=1".to_string()];
        assert_eq!(
            strings(environment(&given, "/root").unwrap()),
            ["A=1", "HOME=/root"]
        );
        let given = ["HOME=/elsewhere".to_string()];
        assert_eq!(
            strings(environment(&given, "/root").unwrap()),
            ["HOME=/elsewhere"]
        );
    }

    #[test]
    fn a_zero_byte_is_refused_and_named() {
        let error = c_strings(&["a\0b".to_string()], "arguments").unwrap_err();
        assert_eq!(error.to_string(), "the process's arguments holds a zero byte");
    }

    #[test]
    fn errors_keep_their_kind_on_the_way_to_the_host() {
        let error = StartError::Command(CommandError::NotInPath("foo".into()));
        assert_eq!(CallError::from(&error).kind, ErrorKind::CommandNotFound);
        let error = StartError::User(UserError::NoSuchUser("bob".into()));
        assert_eq!(CallError::from(&error).kind, ErrorKind::NoSuchUser);
    }
}
