//! The interrupt of one device.

use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_NEEDS_RESET;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING,
    VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS,
};
use vmm_sys_util::eventfd::EventFd;

use super::page::RegisterPage;
use crate::virtio::interrupt::Interrupt;

/// The interrupt of one device, and the page where the driver reads about it.
pub(super) struct InterruptLine {
    pub(super) page: RegisterPage,
    pub(super) needs_reset: AtomicBool,
    pub(super) irq: EventFd,
}

impl InterruptLine {
    /// A line that `irq` stands for, with nothing pending.
    pub(super) fn new(page: RegisterPage, irq: EventFd) -> Self {
        Self {
            page,
            needs_reset: AtomicBool::new(false),
            irq,
        }
    }

    fn raise(&self, cause: u32) {
        let pending = self.page.word(VIRTIO_MMIO_INTERRUPT_STATUS);
        pending.fetch_or(cause.to_le(), Ordering::SeqCst);
        // Fails only when the counter is full: the interrupt is pending then.
        let _ = self.irq.write(1);
    }

    /// The causes that the driver has not acknowledged.
    pub(super) fn pending(&self) -> u32 {
        u32::from_le(
            self.page
                .word(VIRTIO_MMIO_INTERRUPT_STATUS)
                .load(Ordering::SeqCst),
        )
    }

    /// The driver has seen `causes`.
    pub(super) fn acknowledge(&self, causes: u32) {
        let pending = self.page.word(VIRTIO_MMIO_INTERRUPT_STATUS);
        pending.fetch_and(!causes.to_le(), Ordering::SeqCst);
    }

    /// The generation of the configuration space.
    pub(super) fn generation(&self) -> u32 {
        u32::from_le(
            self.page
                .word(VIRTIO_MMIO_CONFIG_GENERATION)
                .load(Ordering::SeqCst),
        )
    }

    /// Shows the driver its status, and whether the device has given up. The device's thread may find that out meanwhile.
    pub(super) fn show_status(&self, status: u32) {
        self.page.set(VIRTIO_MMIO_STATUS, status);
        if self.needs_reset.load(Ordering::SeqCst) {
            self.show_failure();
        }
    }

    fn show_failure(&self) {
        let status = self.page.word(VIRTIO_MMIO_STATUS);
        status.fetch_or(VIRTIO_CONFIG_S_NEEDS_RESET.to_le(), Ordering::SeqCst);
    }

    pub(super) fn reset(&self) {
        self.page.set(VIRTIO_MMIO_INTERRUPT_STATUS, 0);
        self.needs_reset.store(false, Ordering::SeqCst);
    }
}

impl Interrupt for InterruptLine {
    fn used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    fn config_changed(&self) {
        let generation = self.generation().wrapping_add(1);
        self.page.set(VIRTIO_MMIO_CONFIG_GENERATION, generation);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    fn failed(&self) {
        self.needs_reset.store(true, Ordering::SeqCst);
        self.show_failure();
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }
}
