//! The interrupt of one device.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::interrupt::Interrupt;

/// The interrupt of one device, and what the driver can read about it.
pub(super) struct InterruptLine {
    pub(super) status: AtomicU32,
    pub(super) generation: AtomicU32,
    pub(super) needs_reset: AtomicBool,
    pub(super) irq: EventFd,
}

impl InterruptLine {
    /// A line that `irq` stands for, with nothing pending.
    pub(super) fn new(irq: EventFd) -> Self {
        Self {
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            irq,
        }
    }

    fn raise(&self, cause: u32) {
        self.status.fetch_or(cause, Ordering::SeqCst);
        // Fails only when the counter is full: the interrupt is pending then.
        let _ = self.irq.write(1);
    }

    pub(super) fn reset(&self) {
        self.status.store(0, Ordering::SeqCst);
        self.needs_reset.store(false, Ordering::SeqCst);
    }
}

impl Interrupt for InterruptLine {
    fn used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    fn failed(&self) {
        self.needs_reset.store(true, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }
}
