//! The control socket: one JSON [`Request`] a line, answered by one JSON [`Response`] a line, in order.
//!
//! Several clients may be connected. A connection that ends without being closed by the client means that the VMM is
//! gone, which is how a supervisor that did not start it learns of its death.

use serde::{Deserialize, Serialize};

use crate::MAX_QUEUE_PAIRS;

/// The longest request line the VMM reads, in bytes.
pub const MAX_REQUEST: usize = 4096;

/// The most descriptors that come with a request.
pub const MAX_DESCRIPTORS: usize = MAX_QUEUE_PAIRS as usize;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Which state the microVM is in.
    State,
    /// End the microVM at once; answered before the process exits.
    Stop,
    /// Hold all vCPUs. Pausing a paused microVM changes nothing.
    Pause,
    /// Let the vCPUs go on. Resuming a running microVM changes nothing.
    Resume,
    /// Plug a network device into the TAP device whose queues' descriptors come with the request (SCM_RIGHTS), one for each pair of
    /// its queues, or unplug it, if none do. The guest sees its link go up or down. What it was plugged into is let go.
    Plug {
        /// The device's [`NetSpec::id`](crate::NetSpec::id).
        device: String,
    },
    /// Add files to those that the guest sees on a device with layers: they come with the request (SCM_RIGHTS), one for each name, at
    /// most [`MAX_DESCRIPTORS`]. All of them are added or none.
    AddLayers {
        /// The device's [`LayersSpec::tag`](crate::LayersSpec::tag).
        device: String,
        /// What they are called there.
        names: Vec<String>,
    },
    /// Hold the microVM and write a VM snapshot of it to [`VmSpec::save`](crate::VmSpec::save); it stays paused. What is
    /// in the two files after an error is no snapshot.
    Save,
}

/// What the VMM answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The microVM is in this state now.
    State(State),
    /// The request was not understood or could not be carried out, and why.
    Error(String),
}

/// The states of a microVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The vCPUs run.
    Running,
    /// The vCPUs are held.
    Paused,
    /// The process is about to exit.
    Stopped,
}
