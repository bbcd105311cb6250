//! The agent in real microVMs, spoken to as the host does.
//!
//! Needs KVM, `hull-vmm`, a guest kernel and an initramfs (`HULL_LIB`), and mkfs.erofs, mke2fs and a static busybox.

mod archive;
mod container;
mod network;
mod process;
mod streams;
mod vm;
