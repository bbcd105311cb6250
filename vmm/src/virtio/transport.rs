//! The MMIO transport (virtio 1.3, section 4.2, version 2): the registers between a driver and its device.
//!
//! The driver may read and write anything in any order. What the specification forbids has no effect, or marks the
//! device as failed; it never reaches the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_DEVICE_FEATURES,
    VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DEVICE_ID, VIRTIO_MMIO_DRIVER_FEATURES,
    VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING,
    VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_MAGIC_VALUE,
    VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH,
    VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_NUM_MAX,
    VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW,
    VIRTIO_MMIO_SHM_BASE_HIGH, VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_LEN_HIGH, VIRTIO_MMIO_SHM_LEN_LOW,
    VIRTIO_MMIO_SHM_SEL, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_VENDOR_ID, VIRTIO_MMIO_VERSION,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::device::{Activation, DeviceError, VirtioDevice};
use super::interrupt::Interrupt;
use super::queue::{QueueState, Virtqueue};
use crate::bus::BusDevice;
use crate::log::log;
use crate::memory::{GuestMemory, SharedRegion};

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// The version of this transport; 1 is the legacy one.
const VERSION: u32 = 2;
/// "hull".
const VENDOR: u32 = 0x6c6c_7568;

/// What the transport itself offers for every device.
const TRANSPORT_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;

/// The transport of a device could not be made or restored.
#[derive(Debug, Error)]
pub enum TransportError {
    /// No eventfd could be had.
    #[error("cannot make an eventfd for device {device}: {source}")]
    EventFd {
        /// The device's name.
        device: String,
        /// Why.
        source: std::io::Error,
    },
    /// The device offers a queue that virtio does not know.
    #[error("device {device} offers a queue of size {size}: {source}")]
    QueueSize {
        /// The device's name.
        device: String,
        /// The size.
        size: u16,
        /// Why it is none.
        source: virtio_queue::Error,
    },
    /// The saved state is of another device or damaged.
    #[error("cannot restore device {device}: {reason}")]
    State {
        /// The device's name.
        device: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The device refused.
    #[error("device {device}: {source}")]
    Device {
        /// The device's name.
        device: String,
        /// Why.
        source: DeviceError,
    },
}

/// The interrupt of one device, and what the driver can read about it.
struct InterruptLine {
    status: AtomicU32,
    generation: AtomicU32,
    needs_reset: AtomicBool,
    irq: EventFd,
}

impl InterruptLine {
    fn raise(&self, cause: u32) {
        self.status.fetch_or(cause, Ordering::SeqCst);
        // Fails only when the counter is full: the interrupt is pending then.
        let _ = self.irq.write(1);
    }

    fn reset(&self) {
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

/// Where the queues are.
enum Owner {
    /// With the transport: the driver sets them up, or the microVM is paused.
    Transport(Vec<Queue>),
    /// With the device, which serves them.
    Device,
}

/// A device behind its registers.
pub struct MmioTransport {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemory,
    shared_memory: Option<SharedRegion>,
    line: Arc<InterruptLine>,
    kicks: Vec<Arc<EventFd>>,
    owner: Owner,
    registers: Registers,
}

/// What the driver wrote, apart from the queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Registers {
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    shm_sel: u32,
    status: u32,
}

/// The saved state of a device and its transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TransportState {
    /// [`Identity::name`](super::device::Identity::name) of the device.
    pub name: String,
    /// What the driver wrote.
    pub registers: Registers,
    /// Pending interrupt causes.
    pub interrupt_status: u32,
    /// The generation of the configuration space.
    pub config_generation: u32,
    /// Whether the device gave up.
    pub needs_reset: bool,
    /// The rings.
    pub queues: Vec<QueueState>,
    /// The device's own state.
    pub device: serde_json::Value,
}

impl MmioTransport {
    /// Puts registers before `device`, which is inactive.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        shared_memory: Option<SharedRegion>,
    ) -> Result<Self, TransportError> {
        let name = &device.identity().name;
        let event = || {
            EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| TransportError::EventFd {
                device: name.clone(),
                source,
            })
        };
        let queue = |&size: &u16| {
            Queue::new(size).map_err(|source| TransportError::QueueSize {
                device: name.clone(),
                size,
                source,
            })
        };
        let sizes = &device.identity().queue_sizes;
        let queues = sizes.iter().map(queue).collect::<Result<_, _>>()?;
        let kicks = sizes
            .iter()
            .map(|_| event().map(Arc::new))
            .collect::<Result<_, _>>()?;
        let line = InterruptLine {
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            irq: event()?,
        };
        Ok(Self {
            memory,
            shared_memory,
            line: Arc::new(line),
            kicks,
            owner: Owner::Transport(queues),
            registers: Registers::default(),
            device,
        })
    }

    /// The eventfds of the queues, in their order: a write of the queue's index to [`QUEUE_NOTIFY`] signals one.
    pub fn kicks(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }

    /// The eventfd that stands for the device's interrupt line.
    pub fn irq(&self) -> &EventFd {
        &self.line.irq
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.device.identity().name
    }

    /// Takes the queues from the device. The vCPUs are held, so nothing comes in.
    pub fn pause(&mut self) {
        if matches!(self.owner, Owner::Device) {
            self.take_queues_back();
        }
    }

    /// Lets the device go on where [`pause`](Self::pause) or [`restore`](Self::restore) left it.
    pub fn resume(&mut self) {
        if self.line.status.load(Ordering::SeqCst) != 0 {
            // The pulse may have been on its way when the microVM was held, and the driver can do with one more.
            let _ = self.line.irq.write(1);
        }
        if self.is_set(VIRTIO_CONFIG_S_DRIVER_OK) && !self.line.needs_reset.load(Ordering::SeqCst) {
            self.activate();
            // A kick that came before the pause may have been read by a thread that did not get to serve it.
            for kick in &self.kicks {
                let _ = kick.write(1);
            }
        }
    }

    /// The state of a paused device.
    pub fn save(&self) -> Result<TransportState, TransportError> {
        let Owner::Transport(queues) = &self.owner else {
            return Err(self.state_error("it is not paused"));
        };
        let device = self.device.save().map_err(|source| TransportError::Device {
            device: self.name().to_owned(),
            source,
        })?;
        Ok(TransportState {
            name: self.name().to_owned(),
            registers: self.registers.clone(),
            interrupt_status: self.line.status.load(Ordering::SeqCst),
            config_generation: self.line.generation.load(Ordering::SeqCst),
            needs_reset: self.line.needs_reset.load(Ordering::SeqCst),
            queues: queues
                .iter()
                .map(|queue| QueueState::from(queue.state()))
                .collect(),
            device,
        })
    }

    /// Takes over a saved state; [`resume`](Self::resume) then goes on from it. The device is new.
    pub fn restore(&mut self, state: TransportState) -> Result<(), TransportError> {
        if state.name != self.name() {
            return Err(self.state_error(&format!("the state is that of {}", state.name)));
        }
        let sizes = &self.device.identity().queue_sizes;
        if !state.queues.iter().map(|queue| &queue.max_size).eq(sizes) {
            return Err(self.state_error("it has other queues"));
        }
        if state.registers.driver_features & !self.offered_features() != 0 {
            return Err(self.state_error("it has features that the device does not offer"));
        }
        let queues: Result<Vec<Queue>, _> = state.queues.into_iter().map(Queue::try_from).collect();
        let queues = queues.map_err(|error| self.state_error(&error.to_string()))?;
        self.device
            .restore(state.device)
            .map_err(|source| TransportError::Device {
                device: self.name().to_owned(),
                source,
            })?;
        self.owner = Owner::Transport(queues);
        self.registers = state.registers;
        self.line.status.store(state.interrupt_status, Ordering::SeqCst);
        self.line
            .generation
            .store(state.config_generation, Ordering::SeqCst);
        self.line.needs_reset.store(state.needs_reset, Ordering::SeqCst);
        Ok(())
    }

    fn state_error(&self, reason: &str) -> TransportError {
        TransportError::State {
            device: self.name().to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn offered_features(&self) -> u64 {
        self.device.identity().features | TRANSPORT_FEATURES
    }

    fn is_set(&self, status: u32) -> bool {
        self.registers.status & status != 0
    }

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

    fn take_queues_back(&mut self) {
        let queues = self.device.quiesce();
        self.owner = Owner::Transport(queues.into_iter().map(Virtqueue::into_queue).collect());
    }

    /// Hands the queues to the device, unless the driver has laid one of them out wrongly.
    fn activate(&mut self) {
        let Owner::Transport(queues) = std::mem::replace(&mut self.owner, Owner::Device) else {
            return;
        };
        if let Some(index) = queues
            .iter()
            .position(|queue| queue.ready() && !queue.is_valid(self.memory.as_ref()))
        {
            log!(
                "device {}: the driver's queue {index} does not lie in memory",
                self.name()
            );
            self.owner = Owner::Transport(queues);
            self.line.failed();
            return;
        }
        let interrupt: Arc<dyn Interrupt> = Arc::clone(&self.line) as _;
        let states: Vec<QueueState> = queues
            .iter()
            .map(|queue| QueueState::from(queue.state()))
            .collect();
        let virtqueue = |((index, queue), kick): ((u16, Queue), &Arc<EventFd>)| {
            Virtqueue::new(
                index,
                queue,
                Arc::clone(kick),
                self.memory.clone(),
                Arc::clone(&interrupt),
            )
        };
        let activation = Activation {
            features: self.registers.driver_features,
            queues: (0..).zip(queues).zip(&self.kicks).map(virtqueue).collect(),
            memory: self.memory.clone(),
            interrupt: Arc::clone(&interrupt),
            shared_memory: self.shared_memory.clone(),
        };
        if let Err(error) = self.device.activate(activation) {
            log!("device {}: cannot start: {error}", self.name());
            // The queues went with the error; they were valid a moment ago.
            self.owner = Owner::Transport(
                states
                    .into_iter()
                    .filter_map(|state| state.try_into().ok())
                    .collect(),
            );
            self.line.failed();
        }
    }

    fn reset(&mut self) {
        if matches!(self.owner, Owner::Device) {
            self.take_queues_back();
        }
        self.device.reset();
        self.line.reset();
        self.registers = Registers::default();
        if let Owner::Transport(queues) = &mut self.owner {
            queues.iter_mut().for_each(Queue::reset);
        }
        for kick in &self.kicks {
            // Non-blocking: nothing to read is what is wanted.
            let _ = kick.read();
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

    fn read_register(&self, register: u32) -> u32 {
        let identity = self.device.identity();
        let selected = self.registers.queue_sel as usize;
        match register {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => identity.device_id,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => half(self.offered_features(), self.registers.device_features_sel),
            VIRTIO_MMIO_QUEUE_NUM_MAX => identity
                .queue_sizes
                .get(selected)
                .map_or(0, |size| u32::from(*size)),
            VIRTIO_MMIO_QUEUE_READY => u32::from(self.queue_is_ready(selected)),
            VIRTIO_MMIO_INTERRUPT_STATUS => self.line.status.load(Ordering::SeqCst),
            VIRTIO_MMIO_STATUS => {
                let failed = self.line.needs_reset.load(Ordering::SeqCst);
                self.registers.status | if failed { VIRTIO_CONFIG_S_NEEDS_RESET } else { 0 }
            }
            VIRTIO_MMIO_SHM_LEN_LOW => half(self.shm_len(), 0),
            VIRTIO_MMIO_SHM_LEN_HIGH => half(self.shm_len(), 1),
            VIRTIO_MMIO_SHM_BASE_LOW => half(self.shm_base(), 0),
            VIRTIO_MMIO_SHM_BASE_HIGH => half(self.shm_base(), 1),
            VIRTIO_MMIO_CONFIG_GENERATION => self.line.generation.load(Ordering::SeqCst),
            _ => 0,
        }
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
            VIRTIO_MMIO_INTERRUPT_ACK => {
                self.line.status.fetch_and(!value, Ordering::SeqCst);
            }
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

/// The register that kicks queues.
pub const QUEUE_NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        // The bus hands out offsets inside one page.
        let offset = offset as u32;
        if offset >= VIRTIO_MMIO_CONFIG {
            self.device
                .read_config((offset - VIRTIO_MMIO_CONFIG) as usize, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            // Registers are read and written as whole words (section 4.2.2.2).
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let offset = offset as u32;
        if offset >= VIRTIO_MMIO_CONFIG {
            self.device
                .write_config((offset - VIRTIO_MMIO_CONFIG) as usize, data);
        } else if let Ok(word) = <[u8; 4]>::try_from(data) {
            self.write_register(offset, u32::from_le_bytes(word));
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
