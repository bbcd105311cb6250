//! `hull-vmm`: one process, one microVM.

mod memory;
mod resource;
mod virtio;

fn main() {}
