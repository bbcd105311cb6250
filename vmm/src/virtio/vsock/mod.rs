//! virtio-vsock (virtio 1.3, section 5.10): stream sockets between the guest and unix sockets of the host.
//!
//! From host to guest: a client connects to the listening unix socket, writes `CONNECT <port>\n`, reads
//! `OK <port>\n` once the guest has accepted, and has a byte stream from then on. A refusal closes the connection. A
//! client may come before the guest's driver is up: it waits in the listener's backlog until then. From then on it
//! has [`multiplexer::HANDSHAKE`] (10 s) to name a port, and the guest to accept, before the connection is closed.
//!
//! From guest to host: a connection to a port of the spec is joined to that port's unix socket, any other is refused.
//!
//! Both directions close on their own: the end of what one side writes reaches the other side when all data has. What
//! the guest sends is written from its memory straight to the unix socket, and only what the socket does not take at
//! once is kept, up to the credit that the guest was given; what it receives is read straight into its buffers. One
//! thread serves all connections, in turns, and never waits for one.
//!
//! Connections live through a pause. They do not survive a restore: the guest is told to drop them. A guest that had none
//! is told nothing, because it drops all that it has when it hears of it, new ones included.

mod chain;
mod connection;
mod credit;
mod greeting;
#[cfg(test)]
mod guest;
mod multiplexer;
mod packet;
mod rx;
mod service;
#[cfg(test)]
mod tests;
mod transfer;
mod tx;

use std::collections::HashMap;
use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use vm_spec::VsockSpec;

use self::multiplexer::Multiplexer;
use self::service::Service;
use super::device::{Activation, DeviceError, Identity, VirtioDevice, read_config_bytes};
use super::queue::Virtqueue;
use super::worker::Worker;
use crate::log::log;
use crate::resource::{self, ResourceError};

/// VIRTIO_VSOCK_F_STREAM.
const F_STREAM: u64 = 1 << 0;

/// Sizes of the receive, the transmit and the event queue. Linux fills the receive queue with buffers of 8 KiB when it
/// boots, and posts 8 for events.
const QUEUE_SIZES: [u16; 3] = [128, 128, 8];

/// The first context id that is a guest's.
const FIRST_GUEST_CID: u32 = 3;

/// Why a vsock device could not be made or started.
#[derive(Debug, Error)]
pub enum VsockError {
    /// A reserved context id.
    #[error("vsock context id {cid} is reserved: a guest's is between 3 and 4294967294")]
    Cid {
        /// The context id.
        cid: u32,
    },
    /// Two sockets for one port.
    #[error("vsock port {port} of the host is named twice")]
    DuplicatePort {
        /// The port.
        port: u32,
    },
    /// The listening socket of the spec could not be had.
    #[error("vsock: {0}")]
    Listener(#[from] ResourceError),
    /// Sockets cannot be watched.
    #[error("vsock: cannot watch sockets: {0}")]
    Watch(#[from] io::Error),
    /// The transport does not have the queues that the device has.
    #[error("vsock: {found} queues were set up; the device has {}", QUEUE_SIZES.len())]
    Queues {
        /// How many there are.
        found: usize,
    },
    /// The device is being used already.
    #[error("vsock: the device is active already")]
    Active,
}

/// What of the device outlives its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct VsockState {
    /// How many connections there were. They end with the process: a device that takes this over has none of them.
    lost_connections: usize,
    /// Whether the guest has yet to hear that it lost connections before.
    reset_pending: bool,
}

/// A vsock device.
pub struct Vsock {
    identity: Identity,
    config: [u8; 8],
    // With the worker while there is one.
    multiplexer: Option<Multiplexer>,
    transport_reset: bool,
    worker: Option<Worker<Service>>,
}

impl Vsock {
    /// A device without connections.
    pub fn new(spec: VsockSpec) -> Result<Vsock, VsockError> {
        let cid = spec.guest_cid;
        if !(FIRST_GUEST_CID..u32::MAX).contains(&cid) {
            return Err(VsockError::Cid { cid });
        }
        let mut guest_ports = HashMap::with_capacity(spec.guest_ports.len());
        for guest_port in spec.guest_ports {
            let port = guest_port.port;
            if guest_ports.insert(port, guest_port.socket).is_some() {
                return Err(VsockError::DuplicatePort { port });
            }
        }
        let listener = resource::listen(&spec.listener)?;
        let multiplexer = Multiplexer::new(u64::from(cid), listener, guest_ports)?;
        let identity = Identity {
            device_id: VIRTIO_ID_VSOCK,
            name: "vsock".to_owned(),
            features: F_STREAM,
            queue_sizes: QUEUE_SIZES.to_vec(),
            shared_memory: None,
        };
        Ok(Vsock {
            identity,
            config: u64::from(cid).to_le_bytes(),
            multiplexer: Some(multiplexer),
            transport_reset: false,
            worker: None,
        })
    }
}

impl VirtioDevice for Vsock {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let Activation {
            queues, interrupt, ..
        } = activation;
        let found = queues.len();
        let queues: [Virtqueue; 3] = queues.try_into().map_err(|_| VsockError::Queues { found })?;
        let multiplexer = self.multiplexer.take().ok_or(VsockError::Active)?;
        let mut service = Service::new(multiplexer, queues, self.transport_reset);
        self.worker = Some(Worker::spawn(&self.identity.name, move |stop| {
            service.run(stop, interrupt.as_ref());
            service
        })?);
        Ok(())
    }

    fn quiesce(&mut self) -> Vec<Virtqueue> {
        let Some(worker) = self.worker.take() else {
            return Vec::new();
        };
        let Service {
            multiplexer,
            rx,
            tx,
            events,
            transport_reset,
            ..
        } = worker.stop();
        self.multiplexer = Some(multiplexer);
        self.transport_reset = transport_reset;
        vec![rx, tx, events]
    }

    fn reset(&mut self) {
        self.transport_reset = false;
        if let Some(multiplexer) = &mut self.multiplexer {
            multiplexer.clear();
        }
    }

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        let lost_connections = self.multiplexer.as_ref().map_or(0, Multiplexer::len);
        Ok(serde_json::to_value(VsockState {
            lost_connections,
            reset_pending: self.transport_reset,
        })?)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), DeviceError> {
        let VsockState {
            lost_connections,
            reset_pending,
        } = serde_json::from_value(state)?;
        if lost_connections > 0 {
            log!("vsock: {lost_connections} connections ended when the microVM was saved");
        }
        self.transport_reset = reset_pending || lost_connections > 0;
        Ok(())
    }
}
