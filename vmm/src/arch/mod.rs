//! What depends on the processor: its first state, the boot protocol, the layout of physical memory.

mod x86_64;

pub use x86_64::*;
