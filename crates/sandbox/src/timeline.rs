//! When the steps of a microVM's life were done.

use serde::{Deserialize, Serialize};

/// Microseconds from the moment the start was asked for to each step; `None` for a step that was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// The VMM process was spawned.
    pub spawned: Option<u64>,
    /// The agent said that it can be spoken to.
    pub ready: Option<u64>,
    /// The agent had prepared the container.
    pub created: Option<u64>,
    /// The container's init ran.
    pub started: Option<u64>,
    /// The first output of the container's init arrived.
    pub first_output: Option<u64>,
    /// The container's init had ended.
    pub exited: Option<u64>,
    /// The VMM process was gone.
    pub gone: Option<u64>,
}
