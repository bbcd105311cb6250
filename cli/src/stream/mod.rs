//! The byte streams between this process and a container.

mod demux;
mod descriptor;
mod escape;
mod session;

pub(crate) use demux::{Channel, Demux};
pub(crate) use descriptor::{Descriptor, stdin_file};
pub(crate) use escape::DetachKeys;
pub(crate) use session::{End, Session, SessionSpec};
