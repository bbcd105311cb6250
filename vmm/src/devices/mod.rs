//! The few legacy devices a PC kernel wants.

pub mod i8042;
pub mod power;
pub mod serial;
