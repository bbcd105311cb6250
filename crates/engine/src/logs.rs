//! Reading a container's log.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use crate::OutputStream;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether stdout is.
    pub stdout: bool,
    /// Whether stderr is.
    pub stderr: bool,
    /// Whether to wait for more until the container's run ends.
    pub follow: bool,
    /// Only this many of the last lines; `None` is all.
    pub tail: Option<u64>,
    /// Nothing from before this moment.
    pub since: Option<Timestamp>,
    /// Nothing from after this moment.
    pub until: Option<Timestamp>,
}

/// A line of a log, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it was written to.
    pub stream: OutputStream,
    /// When it was received.
    pub time: Timestamp,
    /// Labels, variables and the tag that are told of each line, as `--log-opt` asked for them.
    pub attributes: BTreeMap<String, String>,
    /// What was written, with its line feed; bytes that were no UTF-8 are U+FFFD.
    pub bytes: Bytes,
}
