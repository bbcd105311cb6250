//! Processes of the container and their streams.

use serde::{Deserialize, Serialize};

use crate::filter::FilterInstruction;

/// Names a process; chosen by the host, never used twice in a microVM.
pub type ProcessId = u32;

/// A process to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Its name from now on.
    pub id: ProcessId,
    /// The command and its arguments. The command is looked up in `PATH` of `env` when it has no slash.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value` each. The agent adds `HOME` where it is missing, from the container's
    /// passwd file.
    pub env: Vec<String>,
    /// The working directory, which must be there; that of the container is made with it.
    pub cwd: String,
    /// Docker's `user[:group]`, names or numbers, looked up in the container's own passwd and group files. Empty is
    /// root.
    pub user: String,
    /// Further groups, names or numbers.
    pub groups: Vec<String>,
    /// Capabilities by name (`CAP_CHOWN`), for a process that runs as root; others get none of them but keep them in
    /// the bounding set.
    pub capabilities: Vec<String>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// Whether the agent puts a minimal init in front of the command that reaps zombies and passes signals on.
    pub init: bool,
    /// Whether the host will connect a stdin; without it the process reads end of file.
    pub stdin: bool,
    /// A terminal instead of pipes: everything the process writes is then its stdout.
    pub terminal: Option<WindowSize>,
    /// `oom_score_adj`.
    pub oom_score_adj: i32,
}

/// Which system calls a process may make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// All.
    #[default]
    Unconfined,
    /// Those that Docker's default profile lets through.
    Standard,
    /// What this program says of each.
    Program(Vec<FilterInstruction>),
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Docker's name, such as `nofile`.
    pub name: String,
    /// The soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// A process as the agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// Its name.
    pub id: ProcessId,
    /// Its pid in the root pid namespace of the guest.
    pub pid: i32,
    /// How it ended; `None` while it runs.
    pub exited: Option<ExitStatus>,
    /// What of its output the host has acknowledged, and the agent does not have any more.
    pub acknowledged: OutputOffsets,
}

/// A place in each output stream of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputOffsets {
    /// In its stdout.
    pub stdout: u64,
    /// In its stderr; 0 with a terminal.
    pub stderr: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// Whether the kernel's out-of-memory killer struck in the container while it ran.
    pub oom_killed: bool,
}

/// The streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamKind {
    /// What the process reads.
    Stdin,
    /// What it writes; with a terminal, all of it.
    Stdout,
    /// What it writes as errors; does not exist with a terminal.
    Stderr,
}

/// The first frame of a stream connection.
///
/// After the [`StreamReply`]:
/// - stdin: the host sends bytes; its half-close is the process's end of file (ignored with a terminal). A connection
///   that is broken off is no end of file: another may go on.
/// - stdout and stderr: the agent sends the stream's bytes from `offset` on, and half-closes when the process and all
///   who share the stream have closed it. The host sends acknowledgements, each a `u64` in little endian: every byte
///   before this offset of the stream is safe on the host and may be dropped. A connection that is broken off loses
///   nothing: the next one asks for the offset that the host has. A new connection takes the place of an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHello {
    /// The process.
    pub process: ProcessId,
    /// Which of its streams.
    pub stream: StreamKind,
    /// For output: the offset of the first byte the host has not got.
    pub offset: u64,
}

/// The agent's answer to a [`StreamHello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamReply {
    /// Bytes follow.
    Ready,
    /// No such process or stream, or an offset that is not kept any more.
    Refused(String),
}
