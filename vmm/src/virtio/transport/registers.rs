//! The registers, as the driver reads and writes them.

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DEVICE_ID,
    VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_INT_VRING,
    VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_MAGIC_VALUE, VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
    VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_DESC_LOW,
    VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_QUEUE_READY,
    VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW,
    VIRTIO_MMIO_SHM_BASE_HIGH, VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_LEN_HIGH, VIRTIO_MMIO_SHM_LEN_LOW,
    VIRTIO_MMIO_SHM_SEL, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_VENDOR_ID, VIRTIO_MMIO_VERSION,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};

use super::{MmioTransport, Owner};
use crate::bus::BusDevice;
use crate::memory::SharedRegion;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// The version of this transport; 1 is the legacy one.
const VERSION: u32 = 2;
/// "hull".
const VENDOR: u32 = 0x6c6c_7568;

/// Bytes of the configuration space that a driver can see: more than any device has.
const CONFIG_LEN: usize = 256;

/// The register with which the driver says that it has seen causes of interrupts.
pub const INTERRUPT_ACK: u64 = VIRTIO_MMIO_INTERRUPT_ACK as u64;

/// The cause of nearly all of them: buffers were used.
pub const USED: u32 = VIRTIO_MMIO_INT_VRING;

/// The register that kicks queues.
pub const QUEUE_NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// What the driver wrote, apart from the queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Registers {
    device_features_sel: u32,
    driver_features_sel: u32,
    pub(super) driver_features: u64,
    queue_sel: u32,
    shm_sel: u32,
    pub(super) status: u32,
}

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        self.line.page.read(offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let offset = offset as u32;
        if offset >= VIRTIO_MMIO_CONFIG {
            self.device
                .write_config((offset - VIRTIO_MMIO_CONFIG) as usize, data);
        } else if let Ok(word) = <[u8; 4]>::try_from(data) {
            self.write_register(offset, u32::from_le_bytes(word));
        }
        self.show();
    }
}

impl MmioTransport {
    /// The selected queue, while the driver may set it up: between FEATURES_OK and DRIVER_OK (section 3.1.1).
    fn queue_to_set_up(&mut self) -> Option<&mut Queue> {
        if !self.is_set(VIRTIO_CONFIG_S_FEATURES_OK) || self.is_set(VIRTIO_CONFIG_S_DRIVER_OK) {
            return None;
        }
        match &mut self.owner {
            Owner::Transport(queues) => queues.get_mut(self.registers.queue_sel as usize),
            Owner::Device => None,
        }
    }

    /// The driver writes the status register (section 2.1).
    fn write_status(&mut self, value: u32) {
        let added = value & !self.registers.status;
        if value == 0 {
            self.reset();
            return;
        }
        if self.registers.status & !value != 0 {
            // A driver must not clear a bit (section 2.1.1).
            return;
        }
        let mut accepted = added & 0xff & !VIRTIO_CONFIG_S_NEEDS_RESET;
        if accepted & VIRTIO_CONFIG_S_FEATURES_OK != 0 && !self.features_are_acceptable() {
            accepted &= !(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
        }
        if !self.is_set(VIRTIO_CONFIG_S_FEATURES_OK) {
            accepted &= !VIRTIO_CONFIG_S_DRIVER_OK;
        }
        self.registers.status |= accepted;
        if accepted & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            self.activate();
        }
    }

    fn features_are_acceptable(&self) -> bool {
        let features = self.registers.driver_features;
        features & !self.offered_features() == 0 && features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    fn write_driver_features(&mut self, value: u32) {
        if self.is_set(VIRTIO_CONFIG_S_FEATURES_OK) {
            return;
        }
        let features = self.registers.driver_features;
        self.registers.driver_features = match self.registers.driver_features_sel {
            0 => features & !0xffff_ffff | u64::from(value),
            1 => features & 0xffff_ffff | u64::from(value) << 32,
            _ => features,
        };
    }

    fn write_queue_ready(&mut self, value: u32) {
        let event_idx = self.registers.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        if let Some(queue) = self.queue_to_set_up() {
            queue.set_event_idx(event_idx);
            queue.set_ready(value == 1);
        }
    }

    /// Shows the driver what its writes have made of the registers, and the configuration space. What else it reads changes by
    /// itself: causes of interrupts, and the generation.
    pub(super) fn show(&self) {
        let identity = self.device.identity();
        let selected = self.registers.queue_sel as usize;
        let size = identity.queue_sizes.get(selected);
        let registers = [
            (VIRTIO_MMIO_MAGIC_VALUE, MAGIC),
            (VIRTIO_MMIO_VERSION, VERSION),
            (VIRTIO_MMIO_DEVICE_ID, identity.device_id),
            (VIRTIO_MMIO_VENDOR_ID, VENDOR),
            (
                VIRTIO_MMIO_DEVICE_FEATURES,
                half(self.offered_features(), self.registers.device_features_sel),
            ),
            (VIRTIO_MMIO_QUEUE_NUM_MAX, size.map_or(0, |size| u32::from(*size))),
            (VIRTIO_MMIO_QUEUE_READY, u32::from(self.queue_is_ready(selected))),
            (VIRTIO_MMIO_SHM_LEN_LOW, half(self.shm_len(), 0)),
            (VIRTIO_MMIO_SHM_LEN_HIGH, half(self.shm_len(), 1)),
            (VIRTIO_MMIO_SHM_BASE_LOW, half(self.shm_base(), 0)),
            (VIRTIO_MMIO_SHM_BASE_HIGH, half(self.shm_base(), 1)),
        ];
        for (register, value) in registers {
            self.line.page.set(register, value);
        }
        self.line.show_status(self.registers.status);
        let mut config = [0; CONFIG_LEN];
        self.device.read_config(0, &mut config);
        self.line.page.write(VIRTIO_MMIO_CONFIG, &config);
    }

    /// Whether queue `index` was enabled. One that the device holds is not looked at: the driver knows.
    fn queue_is_ready(&self, index: usize) -> bool {
        match &self.owner {
            Owner::Transport(queues) => queues.get(index).is_some_and(QueueT::ready),
            Owner::Device => index < self.kicks.len(),
        }
    }

    /// Region 0 is the only one; the length of any other reads as all ones (section 4.2.2).
    fn selected_region(&self) -> Option<&SharedRegion> {
        self.shared_memory
            .as_ref()
            .filter(|_| self.registers.shm_sel == 0)
    }

    fn shm_len(&self) -> u64 {
        self.selected_region().map_or(u64::MAX, SharedRegion::len)
    }

    fn shm_base(&self) -> u64 {
        self.selected_region().map_or(u64::MAX, SharedRegion::gpa)
    }

    fn write_register(&mut self, register: u32, value: u32) {
        match register {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.registers.device_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.registers.driver_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.write_driver_features(value),
            VIRTIO_MMIO_QUEUE_SEL => self.registers.queue_sel = value,
            VIRTIO_MMIO_QUEUE_READY => self.write_queue_ready(value),
            VIRTIO_MMIO_QUEUE_NOTIFY => {
                if let Some(kick) = self.kicks.get(value as usize) {
                    let _ = kick.write(1);
                }
            }
            VIRTIO_MMIO_INTERRUPT_ACK => self.line.acknowledge(value),
            VIRTIO_MMIO_STATUS => self.write_status(value),
            VIRTIO_MMIO_SHM_SEL => self.registers.shm_sel = value,
            _ => self.write_queue_register(register, value),
        }
    }

    fn write_queue_register(&mut self, register: u32, value: u32) {
        let Some(queue) = self.queue_to_set_up().filter(|queue| !queue.ready()) else {
            return;
        };
        match register {
            // A size that is no power of two, or too large, leaves the queue as it was.
            VIRTIO_MMIO_QUEUE_NUM => queue.set_size(u16::try_from(value).unwrap_or(0)),
            VIRTIO_MMIO_QUEUE_DESC_LOW => queue.set_desc_table_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.set_desc_table_address(None, Some(value)),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.set_avail_ring_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.set_avail_ring_address(None, Some(value)),
            VIRTIO_MMIO_QUEUE_USED_LOW => queue.set_used_ring_address(Some(value), None),
            VIRTIO_MMIO_QUEUE_USED_HIGH => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }
}

/// The low or high word of `value`, as a selector of 0 or 1 asks; other words are zero.
fn half(value: u64, selector: u32) -> u32 {
    match selector {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}
