//! One request of a virtio-blk driver (virtio 1.3, section 5.2.6): parsed, checked, carried out.

use std::io;

use thiserror::Error;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::disk::{Disk, Transfer};
use super::{MAX_RANGE_SECTORS, MAX_RANGES, MAX_SEGMENTS, SECTOR};
use crate::virtio::queue::DescriptorChain;

/// Bytes of a request's header: type, reserved, sector.
const HEADER_LEN: u32 = 16;

/// Bytes of a discard or write-zeroes range: sector, number of sectors, flags.
const RANGE_LEN: usize = 16;

/// Why a request failed.
#[derive(Debug, Error)]
enum RequestError {
    /// The host's file, or the guest's memory, would not do.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A buffer is not in guest memory.
    #[error(transparent)]
    Memory(#[from] GuestMemoryError),
    /// Positions beyond the disk, or lengths that are no sectors.
    #[error("out of range")]
    Range,
    /// A type or a flag the device does not know.
    #[error("unsupported")]
    Unsupported,
}

impl RequestError {
    fn status(&self) -> u8 {
        match self {
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP as u8,
            Self::Io(_) | Self::Memory(_) | Self::Range => VIRTIO_BLK_S_IOERR as u8,
        }
    }
}

/// A part of guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) gpa: GuestAddress,
    pub(super) len: u32,
}

/// A request whose header is read and whose buffers are collected, with room for its status.
pub(super) struct Request<'m> {
    memory: &'m GuestMemoryMmap,
    kind: u32,
    sector: u64,
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
    status: GuestAddress,
}

impl<'m> Request<'m> {
    /// Takes a chain apart: a header of 16 bytes in the first descriptor, data, and the status in the last byte of the
    /// last. `None` for a chain that has another shape, which cannot be answered.
    pub(super) fn parse(memory: &'m GuestMemoryMmap, mut descriptors: DescriptorChain) -> Option<Self> {
        let header = descriptors
            .next()
            .filter(|first| !first.is_write_only() && first.len() == HEADER_LEN)?;
        let kind: u32 = memory.read_obj(header.addr()).ok()?;
        let sector: u64 = memory
            .read_obj(header.addr().0.checked_add(8).map(GuestAddress)?)
            .ok()?;
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        // The last descriptor seen: it has to be one for the status, and the end. A chain that loops, or leaves the table,
        // or has more than 4 GiB, is cut off by the iterator before its end.
        let mut last: Option<Descriptor> = None;
        for descriptor in descriptors {
            if readable.len() + writable.len() > MAX_SEGMENTS {
                return None;
            }
            let list = if descriptor.is_write_only() {
                &mut writable
            } else {
                &mut readable
            };
            list.push(buffer(&descriptor));
            last = Some(descriptor);
        }
        let last = last.filter(|last| last.is_write_only() && !last.has_next() && last.len() > 0);
        let status = writable.last_mut().filter(|_| last.is_some())?;
        status.len -= 1;
        let status = GuestAddress(status.gpa.0.checked_add(u64::from(status.len))?);
        Some(Self {
            memory,
            kind,
            sector,
            readable,
            writable,
            status,
        })
    }

    /// Does what the request asks and writes its status; returns the number of bytes written to the guest.
    pub(super) fn carry_out(&self, disk: &Disk) -> u32 {
        let (status, written) = match self.data(disk) {
            Ok(written) => (VIRTIO_BLK_S_OK as u8, written),
            Err(error) => (error.status(), 0),
        };
        match self.memory.write_obj(status, self.status) {
            Ok(()) => written.saturating_add(1),
            Err(_) => 0,
        }
    }

    fn data(&self, disk: &Disk) -> Result<u32, RequestError> {
        match self.kind {
            VIRTIO_BLK_T_IN => self.transfer(disk, Transfer::ToGuest, &self.writable),
            VIRTIO_BLK_T_OUT => self
                .transfer(disk, Transfer::FromGuest, &self.readable)
                .map(|_| 0),
            VIRTIO_BLK_T_FLUSH => Ok(disk.flush().map(|()| 0)?),
            VIRTIO_BLK_T_GET_ID => self.write_id(disk),
            VIRTIO_BLK_T_DISCARD => self.each_range(disk, |begin, len, _| disk.discard(begin, len)),
            VIRTIO_BLK_T_WRITE_ZEROES => {
                self.each_range(disk, |begin, len, unmap| disk.write_zeroes(begin, len, unmap))
            }
            _ => Err(RequestError::Unsupported),
        }
    }

    fn transfer(&self, disk: &Disk, direction: Transfer, buffers: &[Buffer]) -> Result<u32, RequestError> {
        let len: u64 = buffers.iter().map(|buffer| u64::from(buffer.len)).sum();
        if !len.is_multiple_of(SECTOR) {
            return Err(RequestError::Range);
        }
        let (begin, _) = disk.range(self.sector, len / SECTOR).ok_or(RequestError::Range)?;
        disk.transfer(direction, begin, self.memory, buffers)?;
        // A chain is at most 4 GiB long, so its length fits.
        u32::try_from(len).map_err(|_| RequestError::Range)
    }

    /// The serial number, padded with zeros, as much as there is room for.
    fn write_id(&self, disk: &Disk) -> Result<u32, RequestError> {
        let buffer = self.writable.first().ok_or(RequestError::Range)?;
        let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
        id[..disk.id().len()].copy_from_slice(disk.id().as_bytes());
        let len = id.len().min(buffer.len as usize);
        self.memory.write_slice(&id[..len], buffer.gpa)?;
        Ok(len as u32)
    }

    /// Calls `apply` with position and length in bytes, and the unmap flag, of each range of a discard or write-zeroes
    /// request, after all of them were checked.
    fn each_range(
        &self,
        disk: &Disk,
        apply: impl Fn(u64, u64, bool) -> io::Result<()>,
    ) -> Result<u32, RequestError> {
        let len: u64 = self.readable.iter().map(|buffer| u64::from(buffer.len)).sum();
        if len == 0 || !len.is_multiple_of(RANGE_LEN as u64) || len > (RANGE_LEN * MAX_RANGES) as u64 {
            return Err(RequestError::Range);
        }
        let bytes = gather(self.memory, &self.readable)?;
        let ranges = bytes.as_chunks().0.iter().map(|range| self.range(disk, range));
        for (begin, len, unmap) in ranges.collect::<Result<Vec<_>, _>>()? {
            apply(begin, len, unmap)?;
        }
        Ok(0)
    }

    fn range(&self, disk: &Disk, range: &[u8; RANGE_LEN]) -> Result<(u64, u64, bool), RequestError> {
        let sector = u64::from_le_bytes(*range.first_chunk().ok_or(RequestError::Range)?);
        let [_, _, sectors, flags] = *range.as_chunks().0 else {
            return Err(RequestError::Range);
        };
        let (sectors, flags) = (u32::from_le_bytes(sectors), u32::from_le_bytes(flags));
        let known = if self.kind == VIRTIO_BLK_T_WRITE_ZEROES {
            VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
        } else {
            0
        };
        if flags & !known != 0 {
            return Err(RequestError::Unsupported);
        }
        if sectors > MAX_RANGE_SECTORS {
            return Err(RequestError::Range);
        }
        let (begin, len) = disk
            .range(sector, u64::from(sectors))
            .ok_or(RequestError::Range)?;
        Ok((begin, len, flags != 0))
    }
}

fn buffer(descriptor: &Descriptor) -> Buffer {
    Buffer {
        gpa: descriptor.addr(),
        len: descriptor.len(),
    }
}

/// Reads all of `buffers`, whose sum the caller has bounded.
fn gather(memory: &GuestMemoryMmap, buffers: &[Buffer]) -> Result<Vec<u8>, GuestMemoryError> {
    let mut bytes = Vec::new();
    for buffer in buffers {
        let begin = bytes.len();
        bytes.resize(begin + buffer.len as usize, 0);
        memory.read_slice(&mut bytes[begin..], buffer.gpa)?;
    }
    Ok(bytes)
}
