//! A guest's driver, for tests of devices: it lays split virtqueues in guest memory and talks to a device through them
//! as a real driver does, or as a hostile one might.

use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::{Activation, VirtioDevice};
use super::interrupt::fake::FakeInterrupt;
use super::queue::Virtqueue;
use crate::memory::{GuestMemory, SharedRegion};

/// Flags of a descriptor (virtio 1.3, section 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// How long a device may take to do what a test waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the first queue lies, and how far the next ones are apart.
const QUEUES: u64 = 0x1_0000;
const QUEUE_STRIDE: u64 = 0x1_0000;

/// A buffer of guest memory: address, length, and whether the device may write to it.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Guest physical address.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// Whether it is the device's to write.
    pub writable: bool,
}

/// The driver's half of one queue.
struct Ring {
    base: u64,
    size: u16,
    kick: Arc<EventFd>,
    next_descriptor: u16,
    next_avail: u16,
    next_used: u16,
}

impl Ring {
    fn avail(&self) -> u64 {
        self.base + 0x4000
    }

    fn used(&self) -> u64 {
        self.base + 0x8000
    }
}

/// A driver and the device it drives.
pub struct Driver<D> {
    /// The device.
    pub device: D,
    /// What the device told its driver.
    pub interrupt: Arc<FakeInterrupt>,
    memory: GuestMemory,
    shared_memory: Option<SharedRegion>,
    rings: Vec<Ring>,
    // The queues while the device does not have them.
    parked: Vec<Virtqueue>,
}

impl<D: VirtioDevice> Driver<D> {
    /// Sets the queues up without activating the device.
    pub fn new(device: D, memory: GuestMemory, shared_memory: Option<SharedRegion>) -> Driver<D> {
        let interrupt = Arc::new(FakeInterrupt::default());
        let mut rings = Vec::new();
        let mut parked = Vec::new();
        for (index, &size) in (0u16..).zip(&device.identity().queue_sizes) {
            let base = QUEUES + u64::from(index) * QUEUE_STRIDE;
            let kick = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
            let ring = Ring {
                base,
                size,
                kick: kick.clone(),
                next_descriptor: 0,
                next_avail: 0,
                next_used: 0,
            };
            let mut queue = Queue::new(size).unwrap();
            queue.set_desc_table_address(Some(base as u32), Some(0));
            queue.set_avail_ring_address(Some(ring.avail() as u32), Some(0));
            queue.set_used_ring_address(Some(ring.used() as u32), Some(0));
            queue.set_ready(true);
            parked.push(Virtqueue::new(
                index,
                queue,
                kick,
                memory.clone(),
                interrupt.clone(),
            ));
            rings.push(ring);
        }
        Driver {
            device,
            interrupt,
            memory,
            shared_memory,
            rings,
            parked,
        }
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// DRIVER_OK, or the end of a pause.
    pub fn activate(&mut self) {
        let activation = Activation {
            features: self.device.identity().features,
            queues: std::mem::take(&mut self.parked),
            memory: self.memory.clone(),
            interrupt: self.interrupt.clone(),
            shared_memory: self.shared_memory.clone(),
        };
        self.device.activate(activation).unwrap();
    }

    /// Pauses the device.
    pub fn quiesce(&mut self) {
        self.parked = self.device.quiesce();
    }

    /// Hands the driver over to another device, as a restore does.
    pub fn replace_device(&mut self, device: D) {
        self.device = device;
    }

    /// Makes a chain of `buffers` available and kicks; returns its head. Descriptors are used in turns, so at most a
    /// ring of them may be outstanding.
    pub fn offer(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let ring = &mut self.rings[queue];
        let head = ring.next_descriptor;
        for (index, buffer) in buffers.iter().enumerate() {
            let slot = ring.next_descriptor;
            ring.next_descriptor = (slot + 1) % ring.size;
            let next = if index + 1 < buffers.len() { NEXT } else { 0 };
            let flags = next | if buffer.writable { WRITE } else { 0 };
            let descriptor = Descriptor::new(buffer.address, buffer.len, flags, ring.next_descriptor);
            let address = GuestAddress(ring.base + 16 * u64::from(slot));
            self.memory
                .write_obj(RawDescriptor::from(descriptor), address)
                .unwrap();
        }
        let slot = ring.avail() + 4 + 2 * u64::from(ring.next_avail % ring.size);
        self.memory.write_obj(head.to_le(), GuestAddress(slot)).unwrap();
        ring.next_avail = ring.next_avail.wrapping_add(1);
        let index = GuestAddress(ring.avail() + 2);
        let order = std::sync::atomic::Ordering::SeqCst;
        self.memory.store(ring.next_avail.to_le(), index, order).unwrap();
        ring.kick.write(1).unwrap();
        head
    }

    /// The next chain that the device gave back, if there is one: its head and the bytes written to it.
    pub fn used(&mut self, queue: usize) -> Option<(u16, u32)> {
        let ring = &mut self.rings[queue];
        let order = std::sync::atomic::Ordering::SeqCst;
        let index: u16 = self.memory.load(GuestAddress(ring.used() + 2), order).unwrap();
        if u16::from_le(index) == ring.next_used {
            return None;
        }
        let slot = ring.used() + 4 + 8 * u64::from(ring.next_used % ring.size);
        ring.next_used = ring.next_used.wrapping_add(1);
        let head: u32 = self.memory.read_obj(GuestAddress(slot)).unwrap();
        let len: u32 = self.memory.read_obj(GuestAddress(slot + 4)).unwrap();
        Some((u32::from_le(head) as u16, u32::from_le(len)))
    }

    /// Waits for [`used`](Self::used).
    pub fn wait_used(&mut self, queue: usize) -> (u16, u32) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(used) = self.used(queue) {
                return used;
            }
            assert!(Instant::now() < deadline, "the device does not use queue {queue}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
