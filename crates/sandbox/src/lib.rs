//! One microVM and the agent in it: start, speak, supervise, clean up.

mod error;
mod timeline;

pub use error::*;
pub use guest_protocol::{Rlimit, WindowSize};
pub use timeline::*;
