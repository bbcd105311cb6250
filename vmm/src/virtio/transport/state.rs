//! The state of a device and its transport, saved and restored.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_INTERRUPT_STATUS};
use virtio_queue::Queue;

use super::{MmioTransport, Owner, Registers, TransportError};
use crate::virtio::queue::QueueState;

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
            interrupt_status: self.line.pending(),
            config_generation: self.line.generation(),
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
        let page = &self.line.page;
        page.set(VIRTIO_MMIO_INTERRUPT_STATUS, state.interrupt_status);
        page.set(VIRTIO_MMIO_CONFIG_GENERATION, state.config_generation);
        self.line.needs_reset.store(state.needs_reset, Ordering::SeqCst);
        self.show();
        Ok(())
    }

    fn state_error(&self, reason: &str) -> TransportError {
        TransportError::State {
            device: self.name().to_owned(),
            reason: reason.to_owned(),
        }
    }
}
