//! Clients on the streams of a process.

use bytes::Bytes;

pub use crate::streams::{AttachInput, AttachOutput};

/// The streams of a process that carry output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// What it writes; with a terminal, all of it.
    Stdout,
    /// What it writes as errors.
    Stderr,
}

/// What a client wants of a container's streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Whether what was written before comes first.
    pub logs: bool,
    /// Whether what is written from now on follows.
    pub stream: bool,
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether it receives stdout.
    pub stdout: bool,
    /// Whether it receives stderr.
    pub stderr: bool,
    /// The keys that detach a client with a terminal, as in `ctrl-p,ctrl-q`; `None` is just that.
    pub detach_keys: Option<String>,
}

/// A client on the streams of a process.
#[derive(Debug)]
pub struct Attachment {
    /// Whether the process has a terminal: its output then is one raw stream.
    pub terminal: bool,
    /// What the process writes. It ends when the process's streams end, or the client detaches by its keys.
    pub output: AttachOutput,
    /// Where input goes; `None` if the client did not ask for it, or the process has no stdin.
    pub input: Option<AttachInput>,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where it was written to.
    pub stream: OutputStream,
    /// What was written, at most 64 KiB.
    pub bytes: Bytes,
}

/// What became of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputOutcome {
    /// It was taken.
    Taken,
    /// It held the detach keys: the attachment is over, its output has ended.
    Detached,
    /// The process takes no input any more.
    Closed,
}
