//! Doors for the fuzzers in `fuzz/`, which build with `--cfg fuzzing`: bodies without connections.

use bytes::Bytes;
use engine::ContainerCreate;

use crate::create::round_trip;
use crate::stdcopy::{Channel, Framing};

/// The body of a create request as what the engine is to make; nothing if it is refused. What is accepted is told by an
/// inspection so that it would be accepted again, and be the same.
pub fn create(body: &[u8]) -> Option<ContainerCreate> {
    round_trip::check(body).ok()
}

/// Output of a process without a terminal as an attached client gets it.
pub fn frame(stderr: bool, data: &[u8]) -> Bytes {
    let channel = if stderr { Channel::Stderr } else { Channel::Stdout };
    Framing::Multiplexed.encode(channel, Bytes::copy_from_slice(data))
}
