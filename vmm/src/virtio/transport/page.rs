//! What a driver reads of its device: a page that lies in the guest's address space, so that reading it ends no run of a vCPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vm_memory::{Bytes, GuestRegionMmap, MemoryRegionAddress, VolatileMemory};

use crate::arch::layout::MMIO_SIZE;

/// The readable registers of one device, and its configuration space. Only the VMM writes to it.
pub struct RegisterPage {
    region: Arc<GuestRegionMmap>,
    begin: u64,
}

impl RegisterPage {
    /// Page `index` of memory that the guest can read and not write.
    pub fn new(region: Arc<GuestRegionMmap>, index: usize) -> Self {
        let begin = index as u64 * MMIO_SIZE;
        Self { region, begin }
    }

    /// A register.
    pub(super) fn word(&self, register: u32) -> &AtomicU32 {
        let offset = self.begin + u64::from(register);
        self.region
            .get_atomic_ref(offset as usize)
            .expect("a register is an aligned word of its page")
    }

    pub(super) fn set(&self, register: u32, value: u32) {
        self.word(register).store(value.to_le(), Ordering::SeqCst);
    }

    /// Writes what is not a register.
    pub(super) fn write(&self, offset: u32, data: &[u8]) {
        let address = MemoryRegionAddress(self.begin + u64::from(offset));
        self.region
            .write_slice(data, address)
            .expect("the configuration space lies in its page");
    }

    /// Reads as the guest does. Beyond the page there are zeros.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let len = data.len().min(MMIO_SIZE.saturating_sub(offset) as usize);
        self.region
            .read_slice(&mut data[..len], MemoryRegionAddress(self.begin + offset))
            .expect("the range was cut to its page");
    }
}
