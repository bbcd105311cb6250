//! virtio-blk (virtio 1.3, section 5.2): a disk over a sparse file.

mod disk;
mod request;

use std::fs::File;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use vm_spec::BlkSpec;

use super::device::{Activation, DeviceError, Identity, VirtioDevice, read_config_bytes};
use super::queue::{DescriptorChain, Virtqueue};
use super::worker::{Worker, serve_queues};
use crate::resource::{self, Access, ResourceError};
use disk::Disk;
use request::Request;

/// Size of the only queue.
const QUEUE_SIZE: u16 = 256;

/// The most data buffers of a request: a full queue less header and status.
const MAX_SEGMENTS: usize = QUEUE_SIZE as usize - 2;

/// The unit of all positions, whatever the block size.
const SECTOR: u64 = 512;

/// The most sectors one discard or write-zeroes range may have: 1 GiB.
const MAX_RANGE_SECTORS: u32 = 1 << 21;

/// The most ranges of one discard or write-zeroes request.
const MAX_RANGES: usize = 16;

/// Bytes of the configuration space (section 5.2.4) up to the write-zeroes fields.
const CONFIG_LEN: usize = 60;

/// The longest serial number.
const MAX_ID: usize = 20;

/// The disk could not be opened.
#[derive(Debug, Error)]
pub enum BlkError {
    /// The serial number does not fit.
    #[error("the disk's id '{id}' is longer than {MAX_ID} bytes")]
    Id {
        /// The id.
        id: String,
    },
    /// The file could not be had.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The file's length could not be found out.
    #[error("cannot find the length of disk '{id}': {source}")]
    Length {
        /// The disk.
        id: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no disk.
    #[error("disk '{id}' has {len} bytes, which is not a positive multiple of {SECTOR}")]
    Size {
        /// The disk.
        id: String,
        /// Its length.
        len: u64,
    },
    /// The descriptor does not allow what the spec asks for.
    #[error("disk '{id}' is to be written to, and its file is not open for writing")]
    NotWritable {
        /// The disk.
        id: String,
    },
    /// The saved state is of another disk.
    #[error("the state is of a disk of {saved} sectors, and '{id}' has {sectors}")]
    OtherDisk {
        /// The disk.
        id: String,
        /// Its sectors.
        sectors: u64,
        /// The sectors of the saved one.
        saved: u64,
    },
}

/// A disk.
pub struct Blk {
    identity: Identity,
    config: [u8; CONFIG_LEN],
    disk: Arc<Disk>,
    worker: Option<Worker<Vec<Virtqueue>>>,
}

/// The saved state of a [`Blk`]: its content is in its file, and requests are finished before a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BlkState {
    /// The capacity in sectors of 512 bytes.
    pub sectors: u64,
}

impl Blk {
    /// Opens the disk that `spec` names.
    pub fn open(spec: &BlkSpec) -> Result<Self, BlkError> {
        let id = || spec.id.clone();
        if spec.id.len() > MAX_ID {
            return Err(BlkError::Id { id: id() });
        }
        let access = if spec.read_only {
            Access::Read
        } else {
            Access::ReadWrite
        };
        let file = resource::open(&spec.file, access)?;
        if !spec.read_only && !is_writable(&file) {
            return Err(BlkError::NotWritable { id: id() });
        }
        let len = disk::length(&file).map_err(|source| BlkError::Length { id: id(), source })?;
        if len == 0 || !len.is_multiple_of(SECTOR) {
            return Err(BlkError::Size { id: id(), len });
        }
        let identity = Identity {
            device_id: VIRTIO_ID_BLOCK,
            name: format!("blk-{}", spec.id),
            features: features(spec.read_only),
            queue_sizes: vec![QUEUE_SIZE],
            shared_memory: None,
        };
        let disk = Disk::new(file, len / SECTOR, spec.read_only, &spec.id);
        Ok(Self {
            identity,
            config: config(len / SECTOR),
            disk: Arc::new(disk),
            worker: None,
        })
    }
}

fn is_writable(file: &File) -> bool {
    use rustix::fs::{OFlags, fcntl_getfl};
    fcntl_getfl(file).is_ok_and(|flags| flags & OFlags::ACCMODE != OFlags::RDONLY)
}

fn features(read_only: bool) -> u64 {
    let always = 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE;
    let writable = 1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
    always | if read_only { 1 << VIRTIO_BLK_F_RO } else { writable }
}

fn config(sectors: u64) -> [u8; CONFIG_LEN] {
    let mut config = [0; CONFIG_LEN];
    let mut set = |offset: usize, bytes: &[u8]| config[offset..offset + bytes.len()].copy_from_slice(bytes);
    set(0, &sectors.to_le_bytes());
    set(12, &(MAX_SEGMENTS as u32).to_le_bytes());
    set(20, &(SECTOR as u32).to_le_bytes());
    // Discard: sectors, ranges, alignment in sectors; a host's file system gives back whole blocks of 4 KiB.
    set(36, &MAX_RANGE_SECTORS.to_le_bytes());
    set(40, &(MAX_RANGES as u32).to_le_bytes());
    set(44, &8u32.to_le_bytes());
    // Write zeroes: sectors, ranges, and that it may deallocate.
    set(48, &MAX_RANGE_SECTORS.to_le_bytes());
    set(52, &(MAX_RANGES as u32).to_le_bytes());
    set(56, &[1]);
    config
}

/// Carries out one request; returns the number of bytes written to the guest. A chain without room for a status is
/// returned untouched.
fn serve(disk: &Disk, chain: DescriptorChain) -> u32 {
    match Request::parse(chain.memory(), chain.clone()) {
        Some(request) => request.carry_out(disk),
        None => 0,
    }
}

impl VirtioDevice for Blk {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let Activation {
            mut queues,
            interrupt,
            ..
        } = activation;
        let disk = Arc::clone(&self.disk);
        let worker = Worker::spawn(&self.identity.name, move |stop| {
            let drain = |queue: &mut Virtqueue| queue.drain(|chain| serve(&disk, chain));
            serve_queues(stop, &mut queues, interrupt.as_ref(), drain);
            queues
        })?;
        self.worker = Some(worker);
        Ok(())
    }

    fn quiesce(&mut self) -> Vec<Virtqueue> {
        self.worker.take().map(Worker::stop).unwrap_or_default()
    }

    fn reset(&mut self) {}

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        Ok(serde_json::to_value(BlkState {
            sectors: self.disk.sectors(),
        })?)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), DeviceError> {
        let BlkState { sectors: saved } = serde_json::from_value(state)?;
        let sectors = self.disk.sectors();
        match saved == sectors {
            true => Ok(()),
            false => Err(BlkError::OtherDisk {
                id: self.identity.name.clone(),
                sectors,
                saved,
            }
            .into()),
        }
    }
}
