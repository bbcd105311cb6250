//! Containers, the processes in them and their images: policy and state.
//!
//! An [`Engine`] keeps every container in a folder of its own under its state root and runs it in a microVM of its own
//! through [`sandbox`]. A container belongs to its VMM, not to the engine: an engine that is opened on the same root
//! finds again what runs.
//!
//! Wherever a method takes a container's name, it may be the name, the id, or a prefix of the id that no other
//! container shares.

mod attach;
mod create;
mod engine;
mod error;
mod exec;
mod image;
mod logs;
mod state;
mod streams;
mod view;

pub use attach::*;
pub use create::*;
pub use engine::*;
pub use error::*;
pub use exec::*;
pub use image::Image;
pub use logs::*;
pub use sandbox::{Rlimit, Timeline, WindowSize};
pub use state::*;
pub use view::*;
