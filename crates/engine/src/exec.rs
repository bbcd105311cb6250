//! Further processes in a running container.

use crate::WindowSize;

/// A process to make ready in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecCreate {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// `NAME=value` to set, over the container's.
    pub env: Vec<String>,
    /// The working directory; empty is the container's.
    pub working_dir: String,
    /// `user[:group]`; empty is the container's.
    pub user: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether it has a stdin that a client may be attached to.
    pub attach_stdin: bool,
    /// Whether a client may be attached to its stdout.
    pub attach_stdout: bool,
    /// Whether a client may be attached to its stderr.
    pub attach_stderr: bool,
    /// The keys that detach a client, as in `ctrl-p,ctrl-q`; `None` is just that.
    pub detach_keys: Option<String>,
    /// Whether it has every capability.
    pub privileged: bool,
}

/// How to start an exec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    /// Whether nobody is attached to it.
    pub detach: bool,
    /// The size of its terminal from the start.
    pub size: Option<WindowSize>,
}

/// An exec at the moment it was asked for.
#[derive(Clone, Debug)]
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The container's id.
    pub container_id: String,
    /// What it is, with what the container says merged in.
    pub config: ExecCreate,
    /// Whether it runs.
    pub running: bool,
    /// Its exit code once it has ended.
    pub exit_code: Option<i32>,
    /// Its process id in the root pid namespace of the microVM; 0 until it was started.
    pub pid: i32,
}
