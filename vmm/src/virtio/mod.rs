//! Virtio devices (virtio 1.3) on the MMIO transport.
//!
//! A device is one file that implements [`device::VirtioDevice`], one line in [`registry`] and one variant of
//! `vm_spec::DeviceSpec`. It sees queues, guest memory and an [`interrupt::Interrupt`]; it knows neither KVM nor the
//! transport.

pub mod blk;
pub mod device;
#[cfg(test)]
pub mod driver;
pub mod fs;
pub mod interrupt;
pub mod net;
pub mod queue;
pub mod registry;
pub mod rng;
pub mod transport;
pub mod vectors;
pub mod vsock;
pub mod worker;
