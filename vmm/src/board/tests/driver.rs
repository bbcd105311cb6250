//! A virtio driver over the MMIO transport, as small as it can be, and able to misbehave.

use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::arch::layout;
use crate::hv::fake::FakeGuest;

/// Descriptor flags.
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// Entries of the queue the driver sets up.
pub(super) const QUEUE_SIZE: u16 = 16;

/// Where the rings lie: descriptors, available ring, used ring.
const TABLE: u64 = 0x40_0000;
const AVAIL: u64 = 0x41_0000;
const USED: u64 = 0x42_0000;

/// Memory for the requests of tests.
pub(super) const DATA: u64 = 0x80_0000;

/// Registers.
pub(super) const DEVICE_FEATURES: u64 = 0x10;
pub(super) const DEVICE_FEATURES_SEL: u64 = 0x14;
pub(super) const DRIVER_FEATURES: u64 = 0x20;
pub(super) const DRIVER_FEATURES_SEL: u64 = 0x24;
pub(super) const QUEUE_SEL: u64 = 0x30;
pub(super) const QUEUE_NUM: u64 = 0x38;
pub(super) const QUEUE_READY: u64 = 0x44;
pub(super) const QUEUE_NOTIFY: u64 = 0x50;
pub(super) const INTERRUPT_STATUS: u64 = 0x60;
pub(super) const INTERRUPT_ACK: u64 = 0x64;
pub(super) const STATUS: u64 = 0x70;
pub(super) const QUEUE_DESC: u64 = 0x80;
pub(super) const QUEUE_DRIVER: u64 = 0x90;
pub(super) const QUEUE_DEVICE: u64 = 0xa0;

/// Bits of the status register.
pub(super) const ACKNOWLEDGE_DRIVER: u32 = 3;
pub(super) const DRIVER_OK: u32 = 4;
pub(super) const FEATURES_OK: u32 = 8;
pub(super) const NEEDS_RESET: u32 = 64;

/// A descriptor: address, length, flags, next.
pub(super) type Descriptor = (u64, u32, u16, u16);

/// The driver of the device in one slot, with one queue.
pub(super) struct Driver<'g> {
    guest: &'g FakeGuest,
    base: u64,
    irq: u32,
    memory: GuestMemoryMmap,
    available: u16,
    used: u16,
}

impl<'g> Driver<'g> {
    /// A driver that has done nothing yet.
    pub(super) fn new(guest: &'g FakeGuest, slot: usize) -> Self {
        let base = layout::mmio_address(slot);
        Self {
            guest,
            base,
            irq: layout::DEVICE_IRQS[slot],
            memory: guest.memory(),
            available: 0,
            used: 0,
        }
    }

    /// A driver whose device is ready.
    pub(super) fn started(guest: &'g FakeGuest, slot: usize) -> Self {
        let mut driver = Self::new(guest, slot);
        driver.start();
        driver
    }

    /// Goes on with the rings where `other` left them, on another machine.
    pub(super) fn continued(guest: &'g FakeGuest, slot: usize, other: &Driver<'_>) -> Self {
        let driver = Self {
            available: other.available,
            used: other.used,
            ..Self::new(guest, slot)
        };
        for (at, len) in [(TABLE, 256), (AVAIL, 64), (USED, 256)] {
            let mut ring = vec![0; len];
            other.memory.read_slice(&mut ring, GuestAddress(at)).unwrap();
            driver.memory.write_slice(&ring, GuestAddress(at)).unwrap();
        }
        driver
    }

    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    pub(super) fn read(&self, register: u64) -> u32 {
        u32::from_le_bytes(self.guest.read(self.base + register))
    }

    pub(super) fn write(&self, register: u64, value: u32) {
        self.guest.write(self.base + register, &value.to_le_bytes());
    }

    pub(super) fn features(&self) -> u64 {
        let word = |selector| {
            self.write(DEVICE_FEATURES_SEL, selector);
            u64::from(self.read(DEVICE_FEATURES))
        };
        word(0) | word(1) << 32
    }

    /// Resets the device and agrees on `features`; true when the device accepts them.
    pub(super) fn negotiate(&self, features: u64) -> bool {
        self.write(STATUS, 0);
        self.write(STATUS, ACKNOWLEDGE_DRIVER);
        for (selector, word) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(DRIVER_FEATURES_SEL, selector);
            self.write(DRIVER_FEATURES, word);
        }
        self.write(STATUS, ACKNOWLEDGE_DRIVER | FEATURES_OK);
        self.read(STATUS) & FEATURES_OK != 0
    }

    /// Tells the device where queue 0 lies.
    pub(super) fn set_up_queue(&self, table: u64, avail: u64, used: u64) {
        self.write(QUEUE_SEL, 0);
        self.write(QUEUE_NUM, u32::from(QUEUE_SIZE));
        for (register, address) in [(QUEUE_DESC, table), (QUEUE_DRIVER, avail), (QUEUE_DEVICE, used)] {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(QUEUE_READY, 1);
    }

    /// The whole initialization of section 3.1.1, with all features and fresh rings.
    pub(super) fn start(&mut self) {
        assert!(self.negotiate(self.features()));
        for at in [AVAIL, USED] {
            self.memory.write_slice(&[0; 256], GuestAddress(at)).unwrap();
        }
        (self.available, self.used) = (0, 0);
        // What an earlier life of the device left behind.
        self.guest.irq_is_pending(self.irq);
        self.set_up_queue(TABLE, AVAIL, USED);
        self.write(STATUS, ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK);
        assert_eq!(self.read(STATUS) & (DRIVER_OK | NEEDS_RESET), DRIVER_OK);
    }

    /// Writes `chain` to the begin of the table and makes it available, without a kick.
    pub(super) fn make_available(&mut self, chain: &[Descriptor]) {
        for (index, descriptor) in (0..).zip(chain) {
            self.write_descriptor(TABLE + index * 16, *descriptor);
        }
        let slot = u64::from(self.available % QUEUE_SIZE);
        self.memory
            .write_obj(0u16, GuestAddress(AVAIL + 4 + slot * 2))
            .unwrap();
        // The event index: an interrupt after the next used buffer, please.
        self.memory
            .write_obj(self.used, GuestAddress(AVAIL + 4 + u64::from(QUEUE_SIZE) * 2))
            .unwrap();
        self.available = self.available.wrapping_add(1);
        self.set_available(self.available);
    }

    pub(super) fn write_descriptor(&self, at: u64, (address, len, flags, next): Descriptor) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
    }

    /// Writes the index of the available ring.
    pub(super) fn set_available(&self, index: u16) {
        self.memory.write_obj(index, GuestAddress(AVAIL + 2)).unwrap();
    }

    pub(super) fn kick(&self) {
        self.write(QUEUE_NOTIFY, 0);
    }

    /// How many buffers the device has used since the driver last looked.
    pub(super) fn pending(&self) -> u16 {
        let index: u16 = self.memory.read_obj(GuestAddress(USED + 2)).unwrap();
        index.wrapping_sub(self.used)
    }

    /// Makes `chain` available, kicks, waits for the interrupt and returns the length the device says it wrote.
    pub(super) fn submit(&mut self, chain: &[Descriptor]) -> u32 {
        self.make_available(chain);
        self.kick();
        self.complete()
    }

    /// Waits for the interrupt.
    pub(super) fn wait_for_irq(&self) {
        self.guest.wait_for_irq(self.irq);
    }

    /// Waits until the device has used one more buffer.
    pub(super) fn complete(&mut self) -> u32 {
        self.wait_for_irq();
        assert_eq!(self.pending(), 1, "one buffer was used");
        assert_eq!(self.read(INTERRUPT_STATUS), 1);
        // Rings a doorbell that nobody hears.
        self.write(INTERRUPT_ACK, 1);
        let slot = u64::from(self.used % QUEUE_SIZE);
        self.used = self.used.wrapping_add(1);
        let head: u32 = self.memory.read_obj(GuestAddress(USED + 4 + slot * 8)).unwrap();
        assert_eq!(head, 0, "the chain that was made available");
        self.memory.read_obj(GuestAddress(USED + 8 + slot * 8)).unwrap()
    }

    /// Waits until the status register has `bit`.
    pub(super) fn wait_for_status(&self, bit: u32) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.read(STATUS) & bit == 0 {
            assert!(Instant::now() < deadline, "the status never had bit {bit:#x}");
        }
    }
}
