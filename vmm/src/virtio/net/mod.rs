//! virtio-net (virtio 1.3, section 5.1) over a TAP device.
//!
//! Frames go between the guest's memory and the TAP device without a copy in between, and without being looked at: what a guest may
//! send is the host's to enforce, on its end of the TAP device. Checksums and the segmentation of large frames are left to whoever
//! needs them done; a frame that goes from guest to guest needs neither.
//!
//! Each pair of queues is one thread. A device without a TAP device is a port without a cable: its link is down, and nobody serves
//! its frames, so that it costs a microVM that has no use for it next to nothing.

mod control;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod limiter;
mod pairs;
mod rx;
mod service;
mod tap;
#[cfg(test)]
mod tests;
mod tx;

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use vm_spec::{MAX_QUEUE_PAIRS, NetSpec, RateLimit};

use super::device::{Activation, DeviceError, Identity, VirtioDevice, read_config_bytes};
use super::interrupt::Interrupt;
use super::queue::Virtqueue;
use super::worker::Worker;
use crate::log::log;
use crate::resource::{self, Access, ResourceError};
use limiter::Limiter;
use pairs::Pairs;
use rx::Receiver;
use service::{Limiters, Pair};
use tap::{Tap, TapError};

/// Sizes of the queues for frames, and of the one for commands.
const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;

/// Bytes of the header before each frame (`virtio_net_hdr_v1`).
const HEADER_LEN: usize = 12;

/// The longest frame with its header: what one segment of 64 KiB, not yet cut to pieces, can have before it.
const MAX_FRAME: usize = HEADER_LEN + 14 + 4 + (1 << 16);

/// Bytes of the configuration space up to the MTU (section 5.1.4).
const CONFIG_LEN: usize = 12;

/// The smallest MTU that a driver takes (section 5.1.4.1).
const MIN_MTU: u16 = 68;

/// A network device could not be made.
#[derive(Debug, Error)]
pub enum NetError {
    /// No or too many pairs of queues.
    #[error("network device '{id}' cannot have {pairs} pairs of queues; it can have 1 to {MAX_QUEUE_PAIRS}")]
    Pairs {
        /// The device.
        id: String,
        /// How many.
        pairs: u16,
    },
    /// Not one descriptor for each pair.
    #[error("network device '{id}' with {pairs} pairs of queues got {taps} descriptors of its TAP device")]
    Taps {
        /// The device.
        id: String,
        /// Its pairs.
        pairs: u16,
        /// The descriptors.
        taps: usize,
    },
    /// A group address.
    #[error("network device '{id}' cannot have the address {mac:02x?}, which is a group's")]
    Mac {
        /// The device.
        id: String,
        /// The address.
        mac: [u8; 6],
    },
    /// An MTU that no driver takes.
    #[error("network device '{id}' cannot have an MTU of {mtu}; it can have {MIN_MTU} or more")]
    Mtu {
        /// The device.
        id: String,
        /// The MTU.
        mtu: u16,
    },
    /// A descriptor could not be had.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// A descriptor is not of a TAP device.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The saved state is of another device.
    #[error("the state is of a device with other features than network device '{id}' has")]
    OtherDevice {
        /// The device.
        id: String,
    },
}

/// A network device.
pub struct Net {
    identity: Identity,
    id: String,
    mac: [u8; 6],
    mtu: Option<u16>,
    pairs: Arc<Pairs>,
    limiters: Limiters,
    /// Whether the driver takes the link to be up; `None` before there is a driver.
    told: Option<bool>,
    workers: Vec<Worker<Vec<Virtqueue>>>,
    /// Queues that nobody serves: of pairs that the driver does not know of, or without a cable.
    idle: Vec<Virtqueue>,
}

/// The saved state of a [`Net`]. Frames that are under way are lost, as on any wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetState {
    /// The features that it offered.
    pub features: u64,
    /// How many pairs of queues the driver works with.
    pub active_pairs: u16,
    /// Whether the driver takes the link to be up; `None` before there was a driver.
    pub link: Option<bool>,
}

impl Net {
    /// The device that `spec` describes.
    pub fn new(spec: NetSpec) -> Result<Self, NetError> {
        let NetSpec { id, mac, mtu, .. } = spec;
        let pairs = spec.queue_pairs;
        if !(1..=MAX_QUEUE_PAIRS).contains(&pairs) {
            return Err(NetError::Pairs { id, pairs });
        }
        if mac[0] & 1 == 1 {
            return Err(NetError::Mac { id, mac });
        }
        if let Some(mtu) = mtu.filter(|mtu| *mtu < MIN_MTU) {
            return Err(NetError::Mtu { id, mtu });
        }
        let open = |tap| resource::open(tap, Access::ReadWrite);
        let files = spec.taps.iter().map(open).collect::<Result<_, _>>()?;
        let taps = take_taps(&id, pairs, files)?;
        let now = Instant::now();
        let limiter = |limit: &RateLimit| Arc::new(Mutex::new(Limiter::new(limit, now)));
        Ok(Self {
            identity: identity(&id, mtu.is_some(), pairs),
            mac,
            mtu,
            pairs: Arc::new(Pairs::new(taps, pairs, 1)),
            limiters: Limiters {
                receive: limiter(&spec.receive_limit),
                transmit: limiter(&spec.transmit_limit),
            },
            told: None,
            workers: Vec::new(),
            idle: Vec::new(),
            id,
        })
    }

    fn is_link_up(&self) -> bool {
        !self.pairs.taps().is_empty()
    }

    fn config(&self) -> [u8; CONFIG_LEN] {
        let status = if self.is_link_up() {
            VIRTIO_NET_S_LINK_UP as u16
        } else {
            0
        };
        let mut config = [0; CONFIG_LEN];
        config[..6].copy_from_slice(&self.mac);
        config[6..8].copy_from_slice(&status.to_le_bytes());
        config[8..10].copy_from_slice(&self.pairs.count().to_le_bytes());
        config[10..12].copy_from_slice(&self.mtu.unwrap_or_default().to_le_bytes());
        config
    }

    /// Starts the thread of a pair.
    fn spawn(
        &self,
        mut pair: Pair,
        interrupt: &Arc<dyn Interrupt>,
    ) -> std::io::Result<Worker<Vec<Virtqueue>>> {
        let interrupt = Arc::clone(interrupt);
        Worker::spawn(&self.identity.name, move |stop| {
            if let Err(error) = pair.serve(stop) {
                log!("{error}; the device waits for a reset");
                interrupt.failed();
            }
            let queues = [Some(pair.receive), Some(pair.transmit), pair.control];
            queues.into_iter().flatten().collect()
        })
    }

    /// Brings the host's end in line with what the driver wants.
    fn prepare_taps(&self, features: u64) -> Result<(), TapError> {
        let offloads = offloads(features);
        self.pairs
            .taps()
            .iter()
            .try_for_each(|tap| tap.set_offloads(offloads))?;
        self.pairs.set_active(self.pairs.active()).map(|_| ())
    }
}

/// The host's end: a queue for each pair, or none.
fn take_taps(id: &str, pairs: u16, files: Vec<File>) -> Result<Vec<Tap>, NetError> {
    if !files.is_empty() && files.len() != usize::from(pairs) {
        return Err(NetError::Taps {
            id: id.to_owned(),
            pairs,
            taps: files.len(),
        });
    }
    Ok(files.into_iter().map(Tap::new).collect::<Result<_, _>>()?)
}

/// Returns what the driver has sent so far, which was without a cable.
fn discard(frames: &mut [Virtqueue], interrupt: &Arc<dyn Interrupt>) {
    for transmit in frames.iter_mut().skip(1).step_by(2) {
        if let Err(error) = transmit.drain(|_| 0) {
            log!("{error}; the device waits for a reset");
            interrupt.failed();
        }
    }
}

/// The name of the device that a spec calls `id`.
pub fn device_name(id: &str) -> String {
    format!("net-{id}")
}

fn identity(id: &str, mtu: bool, pairs: u16) -> Identity {
    let always = [
        VIRTIO_NET_F_MAC,
        VIRTIO_NET_F_STATUS,
        VIRTIO_NET_F_MRG_RXBUF,
        VIRTIO_NET_F_CSUM,
        VIRTIO_NET_F_HOST_TSO4,
        VIRTIO_NET_F_HOST_TSO6,
        VIRTIO_NET_F_HOST_ECN,
        VIRTIO_NET_F_GUEST_CSUM,
        VIRTIO_NET_F_GUEST_TSO4,
        VIRTIO_NET_F_GUEST_TSO6,
        VIRTIO_NET_F_GUEST_ECN,
    ];
    let several = [VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ];
    let features = always
        .iter()
        .chain(several.iter().filter(|_| pairs > 1))
        .chain(mtu.then_some(&VIRTIO_NET_F_MTU));
    let mut queue_sizes = vec![QUEUE_SIZE; 2 * usize::from(pairs)];
    if pairs > 1 {
        queue_sizes.push(CONTROL_QUEUE_SIZE);
    }
    Identity {
        device_id: VIRTIO_ID_NET,
        name: device_name(id),
        features: features.fold(0, |set, feature| set | 1 << feature),
        queue_sizes,
        shared_memory: None,
    }
}

/// What the kernel may leave to a driver that agreed on `features`.
fn offloads(features: u64) -> libc::c_uint {
    let agreed = |feature: u32| features & 1 << feature != 0;
    let table = [
        (VIRTIO_NET_F_GUEST_CSUM, libc::TUN_F_CSUM),
        (VIRTIO_NET_F_GUEST_TSO4, libc::TUN_F_TSO4),
        (VIRTIO_NET_F_GUEST_TSO6, libc::TUN_F_TSO6),
        (VIRTIO_NET_F_GUEST_ECN, libc::TUN_F_TSO_ECN),
    ];
    // Segments are cut by who computes their checksums (section 5.1.3.1), and the kernel knows it so, too.
    if !agreed(VIRTIO_NET_F_GUEST_CSUM) {
        return 0;
    }
    let wanted = table.iter().filter(|(feature, _)| agreed(*feature));
    wanted.fold(0, |set, (_, offload)| set | offload)
}

impl VirtioDevice for Net {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_config_bytes(&self.config(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let Activation {
            features,
            queues,
            interrupt,
            ..
        } = activation;
        self.prepare_taps(features)?;
        let link = self.is_link_up();
        // A driver that has gone on from elsewhere, or whose cable was plugged in meanwhile.
        let is_news = self.told.replace(link).is_some_and(|told| told != link);

        let agreed = |feature: u32| features & 1 << feature != 0;
        let mut queues = queues.into_iter();
        // The control queue is behind all the pairs that the driver knows of (section 5.1.2).
        let known = if agreed(VIRTIO_NET_F_MQ) {
            self.pairs.count()
        } else {
            1
        };
        let mut frames: Vec<_> = queues.by_ref().take(2 * usize::from(known)).collect();
        let mut control = queues.next().filter(|_| agreed(VIRTIO_NET_F_CTRL_VQ));
        self.idle = queues.collect();
        if is_news {
            if link {
                discard(&mut frames, &interrupt);
            }
            interrupt.config_changed();
        }
        let mut index = usize::from(known);
        while let (Some(transmit), Some(receive)) = (frames.pop(), frames.pop()) {
            index -= 1;
            let control = if index == 0 { control.take() } else { None };
            // A driver waits for the answer to a command, cable or not.
            if !link && control.is_none() {
                self.idle.extend([receive, transmit]);
                continue;
            }
            let pair = Pair {
                index,
                receive,
                transmit,
                control,
                receiver: Receiver::new(agreed(VIRTIO_NET_F_MRG_RXBUF)),
                pairs: Arc::clone(&self.pairs),
                limiters: self.limiters.clone(),
            };
            self.workers.push(self.spawn(pair, &interrupt)?);
        }
        Ok(())
    }

    fn quiesce(&mut self) -> Vec<Virtqueue> {
        let mut queues: Vec<_> = self.workers.drain(..).flat_map(Worker::stop).collect();
        queues.append(&mut self.idle);
        queues.sort_by_key(Virtqueue::index);
        queues
    }

    fn plug(&mut self, ends: Vec<File>) -> Result<(), DeviceError> {
        let count = self.pairs.count();
        let taps = take_taps(&self.id, count, ends)?;
        self.pairs = Arc::new(Pairs::new(taps, count, self.pairs.active()));
        Ok(())
    }

    fn reset(&mut self) {
        self.told = None;
        if let Err(error) = self.pairs.set_active(1) {
            log!("{}: {error}", self.identity.name);
        }
    }

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        Ok(serde_json::to_value(NetState {
            features: self.identity.features,
            active_pairs: self.pairs.active(),
            link: self.told,
        })?)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), DeviceError> {
        let state: NetState = serde_json::from_value(state)?;
        if state.features != self.identity.features || !self.pairs.set_active(state.active_pairs)? {
            return Err(NetError::OtherDevice { id: self.id.clone() }.into());
        }
        self.told = state.link;
        Ok(())
    }
}
