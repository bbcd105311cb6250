//! The MMIO transport (virtio 1.3, section 4.2, version 2): the registers between a driver and its device.
//!
//! The driver may read and write anything in any order. What the specification forbids has no effect, or marks the
//! device as failed; it never reaches the device.

mod interrupt_line;
mod page;
mod registers;
mod state;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use thiserror::Error;
use virtio_bindings::virtio_config::{VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::interrupt_line::InterruptLine;
pub use self::page::RegisterPage;
pub use self::registers::{INTERRUPT_ACK, QUEUE_NOTIFY, Registers, USED};
pub use self::state::TransportState;
use super::device::{Activation, DeviceError, VirtioDevice};
use super::interrupt::Interrupt;
use super::queue::{QueueState, Virtqueue};
use crate::log::log;
use crate::memory::{GuestMemory, SharedRegion};

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

impl MmioTransport {
    /// Puts registers before `device`, which is inactive; `page` is what its driver reads.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        page: RegisterPage,
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
        let line = InterruptLine::new(page, event()?);
        let transport = Self {
            memory,
            shared_memory,
            line: Arc::new(line),
            kicks,
            owner: Owner::Transport(queues),
            registers: Registers::default(),
            device,
        };
        transport.show();
        Ok(transport)
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
        if self.line.pending() != 0 {
            // The pulse may have been on its way when the microVM was held, and the driver can do with one more. That of used buffers
            // looks pending for good once there were any.
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

    /// Puts something else at the host's end of the paused device.
    pub fn plug(&mut self, ends: Vec<File>) -> Result<(), TransportError> {
        let plugged = self.device.plug(ends);
        self.show();
        plugged.map_err(|source| self.failed(source))
    }

    /// Shows the guest more files, paused or not.
    pub fn add_layers(&mut self, files: Vec<(String, File)>) -> Result<(), TransportError> {
        let added = self.device.add_layers(files);
        added.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: DeviceError) -> TransportError {
        TransportError::Device {
            device: self.name().to_owned(),
            source,
        }
    }

    fn offered_features(&self) -> u64 {
        self.device.identity().features | TRANSPORT_FEATURES
    }

    fn is_set(&self, status: u32) -> bool {
        self.registers.status & status != 0
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
}
