//! What a virtio device is to the transport.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use super::interrupt::Interrupt;
use super::queue::Virtqueue;
use crate::memory::{GuestMemory, SharedRegion};

/// What a device fails with; the transport and the board only pass it on.
pub type DeviceError = Box<dyn Error + Send + Sync>;

/// What a device is, before any driver speaks to it. It never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device ID (virtio 1.3, section 5).
    pub device_id: u32,
    /// A name for logs, threads and saved state; unique in its microVM.
    pub name: String,
    /// The device's own feature bits (0 to 23 and 50 up). The transport adds VIRTIO_F_VERSION_1,
    /// VIRTIO_F_RING_INDIRECT_DESC and VIRTIO_F_RING_EVENT_IDX.
    pub features: u64,
    /// The largest size of each queue: powers of two.
    pub queue_sizes: Vec<u16>,
    /// Bytes of shared memory region 0 (virtio 1.3, sections 2.10 and 4.2.2), a multiple of 2 MiB, where the device
    /// has one.
    pub shared_memory: Option<u64>,
}

/// What a driver that sets DRIVER_OK hands to its device.
#[allow(
    dead_code,
    reason = "each device reads the fields it needs, and none needs all yet"
)]
pub struct Activation {
    /// The features both sides agreed on.
    pub features: u64,
    /// All queues in their order. One that the driver did not enable is there and never yields a chain.
    pub queues: Vec<Virtqueue>,
    /// Guest memory, the shared memory regions included.
    pub memory: GuestMemory,
    /// The line to the driver.
    pub interrupt: Arc<dyn Interrupt>,
    /// Shared memory region 0, for a device whose [`Identity::shared_memory`] asked for it.
    pub shared_memory: Option<SharedRegion>,
}

/// A virtio device.
///
/// Its life: made from its spec, then any number of times [`activate`](Self::activate) …
/// [`quiesce`](Self::quiesce). Between the two it may work on threads of its own (see [`super::worker`]); outside of
/// them it holds no thread and touches no guest memory. [`reset`](Self::reset), [`save`](Self::save) and
/// [`restore`](Self::restore) are only called there. The transport serialises all calls.
///
/// Pausing a microVM is `quiesce` and resuming it is `activate` with the same queues, so what must outlive a pause
/// (open connections, open files) stays in the device, and what must not outlive the driver is dropped by `reset`.
///
/// All that comes out of the queues is hostile: no method and no thread of a device may panic, block without end or
/// allocate without bound because of it.
pub trait VirtioDevice: Send {
    /// What the device is.
    fn identity(&self) -> &Identity;

    /// Fills `data` from byte `offset` of the configuration space; bytes beyond its end read as zero.
    fn read_config(&self, offset: usize, data: &mut [u8]);

    /// The driver writes to the configuration space. Most devices have nothing to write there.
    fn write_config(&mut self, _offset: usize, _data: &[u8]) {}

    /// Starts to serve the queues. On an error the device is as before, and the driver sees DEVICE_NEEDS_RESET.
    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError>;

    /// Stops serving, finishes what has begun, and hands back all queues in their order. Prompt: a device that waits
    /// for something outside the microVM gives up waiting.
    fn quiesce(&mut self) -> Vec<Virtqueue>;

    /// Puts something else of the host's at the other end of the device, while it does not serve; on an error nothing changes. Most
    /// devices have no such end.
    fn plug(&mut self, _ends: Vec<File>) -> Result<(), DeviceError> {
        Err("it has nothing to be plugged into".into())
    }

    /// Shows the guest more files, by their names, while it serves; all of them or none. Only the device with layers shows files.
    fn add_layers(&mut self, _files: Vec<(String, File)>) -> Result<(), DeviceError> {
        Err("it shows no layers".into())
    }

    /// Forgets what the driver did: the state of a new device of the same spec.
    fn reset(&mut self);

    /// The device's own state; queues and negotiated features are the transport's.
    fn save(&self) -> Result<serde_json::Value, DeviceError>;

    /// Takes over what [`save`](Self::save) of a device of the same spec returned, from a file that may be damaged.
    fn restore(&mut self, state: serde_json::Value) -> Result<(), DeviceError>;
}

/// Copies the part of `config` that begins at `offset` to `data`, and zeros where there is none: all that most devices
/// need for [`VirtioDevice::read_config`].
pub fn read_config_bytes(config: &[u8], offset: usize, data: &mut [u8]) {
    let available = config.get(offset..).unwrap_or_default();
    let len = available.len().min(data.len());
    data[..len].copy_from_slice(&available[..len]);
    data[len..].fill(0);
}
