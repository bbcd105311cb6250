//! How the supervisor starts QEMU and the file server: through itself, so that what must happen between
//! fork and exec happens in an ordinary, single-threaded program.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sched::CloneFlags;
use rustix::process::{Resource, Rlimit, Signal};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// A program to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfineSpec {
    /// The supervisor's process id: the program dies with it.
    pub parent: u32,
    /// Become root of a new user namespace that maps this user alone.
    pub user_namespace: bool,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// The program could not be started as asked.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The arguments are not the supervisor's.
    #[error("usage: hull-machine confine PARENT (host | user-namespace) PROGRAM [ARGUMENT...]")]
    Usage,
    /// The supervisor died meanwhile.
    #[error("the supervisor (process {parent}) is gone")]
    Orphan {
        /// Its process id.
        parent: u32,
    },
    /// A step failed.
    #[error("cannot {action}: {source}{hint}")]
    Step {
        /// Which.
        action: &'static str,
        /// Why.
        source: io::Error,
        /// What may be done about it.
        hint: &'static str,
    },
    /// The program could not be run.
    #[error("cannot run {program}: {source}")]
    Exec {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

const NAMESPACE_HINT: &str = "; the host must allow unprivileged user namespaces \
    (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)";

impl ConfineSpec {
    /// The arguments that [`ConfineSpec::parse`] understands.
    pub fn arguments(self) -> Vec<OsString> {
        let mode = if self.user_namespace {
            "user-namespace"
        } else {
            "host"
        };
        let mut arguments = vec!["confine".into(), self.parent.to_string().into(), mode.into()];
        arguments.extend(self.command);
        arguments
    }

    /// Read the arguments after the word `confine`.
    pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, ConfineError> {
        let text = |argument: Option<OsString>| {
            argument
                .and_then(|a| a.into_string().ok())
                .ok_or(ConfineError::Usage)
        };
        let parent = text(arguments.next())?.parse().map_err(|_| ConfineError::Usage)?;
        let user_namespace = match text(arguments.next())?.as_str() {
            "host" => false,
            "user-namespace" => true,
            _ => return Err(ConfineError::Usage),
        };
        let command: Vec<OsString> = arguments.collect();
        if command.is_empty() {
            return Err(ConfineError::Usage);
        }
        Ok(ConfineSpec {
            parent,
            user_namespace,
            command,
        })
    }

    /// Become the program. Comes back only when that fails.
    pub fn exec(self) -> Result<Infallible, ConfineError> {
        if self.user_namespace {
            enter_user_namespace()?;
            pretend_setgroups()?;
        }
        raise_file_limit();
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| step("tie the program's life to the supervisor's", "")(e.into()))?;
        // The supervisor may have died before the line above.
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        if u32::try_from(parent) != Ok(self.parent) {
            return Err(ConfineError::Orphan { parent: self.parent });
        }
        let program = &self.command[0];
        let source = Command::new(program).args(&self.command[1..]).exec();
        Err(ConfineError::Exec {
            program: program.into(),
            source,
        })
    }
}

fn step(action: &'static str, hint: &'static str) -> impl Fn(io::Error) -> ConfineError {
    move |source| ConfineError::Step { action, source, hint }
}

/// This user becomes root in a namespace where nobody else exists: enough to serve files as this user.
fn enter_user_namespace() -> Result<(), ConfineError> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|e| step("make a user namespace", NAMESPACE_HINT)(e.into()))?;
    let write =
        |path, text: String| fs::write(path, text).map_err(step("set the user namespace up", NAMESPACE_HINT));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Answer `setgroups` with success and do nothing.
///
/// QEMU's virtiofsd gives its supplementary groups up and ends when it cannot, which is so in the user
/// namespace of an ordinary user. Keeping them is right there: they are what this user may use.
fn pretend_setgroups() -> Result<(), ConfineError> {
    let failed = |e: String| step("filter system calls", "")(io::Error::other(e));
    let rules = [(libc::SYS_setgroups, Vec::new())].into_iter().collect();
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|e: seccompiler::BackendError| failed(e.to_string()))?;
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(0), arch)
        .and_then(BpfProgram::try_from)
        .map_err(|e| failed(e.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|e| failed(e.to_string()))
}

/// The file server keeps a descriptor for each file that the VM knows, the supervisor one for each connection.
pub(super) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // A lower limit still serves; it is no reason not to start.
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_were() {
        for user_namespace in [false, true] {
            let spec = ConfineSpec {
                parent: 42,
                user_namespace,
                command: vec!["/bin/true".into(), "-x y".into()],
            };
            let mut arguments = spec.clone().arguments().into_iter();
            assert_eq!(arguments.next(), Some("confine".into()));
            assert_eq!(ConfineSpec::parse(arguments).unwrap(), spec);
        }
    }

    #[test]
    fn incomplete_arguments_are_refused() {
        for arguments in [
            vec![],
            vec!["1"],
            vec!["1", "host"],
            vec!["x", "host", "p"],
            vec!["1", "jail", "p"],
        ] {
            let parsed = ConfineSpec::parse(arguments.iter().map(OsString::from));
            assert!(matches!(parsed, Err(ConfineError::Usage)), "{arguments:?}");
        }
    }
}
