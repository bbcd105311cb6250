//! Guest memory and the shared memory regions of devices.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use thiserror::Error;
use vm_memory::{GuestMemoryMmap, GuestRegionMmap};

/// Guest memory as devices see it: RAM and the shared memory regions.
pub type GuestMemory = Arc<GuestMemoryMmap>;

/// Alignment of RAM and of shared regions in bytes, in the host and in the guest: a huge page.
pub const HUGE_PAGE: u64 = 2 << 20;

/// A page in bytes.
const PAGE: u64 = 4096;

/// Memory could not be had or changed.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Address space could not be mapped.
    #[error("cannot map {len} bytes for the guest: {source}")]
    Map {
        /// How many bytes.
        len: u64,
        /// Why.
        source: io::Error,
    },
    /// The regions do not form an address space.
    #[error("cannot lay out guest memory: {0}")]
    Layout(String),
    /// A part of a shared region that is outside of it or not on page borders.
    #[error("{len} bytes at offset {offset} are no pages of a shared region of {region} bytes")]
    Range {
        /// Begin of the part.
        offset: u64,
        /// Length of the part.
        len: u64,
        /// Length of the region.
        region: u64,
    },
}

/// A device's shared memory region (virtio 1.3, section 2.10): guest physical pages whose backing the device chooses.
///
/// A part without a file is private, zeroed memory, and a file is mapped privately with write access, so no access by
/// the guest or by another device that was pointed here can fault, and none reaches the file.
#[derive(Clone)]
pub struct SharedRegion {
    region: Arc<GuestRegionMmap>,
}

impl SharedRegion {
    /// The length in bytes.
    pub fn len(&self) -> u64 {
        vm_memory::GuestMemoryRegion::len(self.region.as_ref())
    }

    /// The guest physical address of its first byte.
    pub fn gpa(&self) -> u64 {
        vm_memory::GuestMemoryRegion::start_addr(self.region.as_ref()).0
    }

    /// Shows `len` bytes of `file` from `file_offset` at `offset` of the region, all three multiples of the page size.
    /// What stood there is replaced. The file must not shrink while it is mapped.
    pub fn map(&self, offset: u64, len: u64, file: &File, file_offset: u64) -> Result<(), MemoryError> {
        self.replace(offset, len, Some((file, file_offset)))
    }

    /// Replaces a part of the region by zeroed memory.
    pub fn unmap(&self, offset: u64, len: u64) -> Result<(), MemoryError> {
        self.replace(offset, len, None)
    }

    fn replace(&self, offset: u64, len: u64, file: Option<(&File, u64)>) -> Result<(), MemoryError> {
        let range = MemoryError::Range {
            offset,
            len,
            region: self.len(),
        };
        let end = offset.checked_add(len).filter(|end| *end <= self.len());
        let file_offset = file.map_or(0, |(_, file_offset)| file_offset);
        if end.is_none() || len == 0 || (offset | len | file_offset) % PAGE != 0 {
            return Err(range);
        }
        let Ok(file_offset) = libc::off_t::try_from(file_offset) else {
            return Err(range);
        };
        let (fd, kind) = match file {
            Some((file, _)) => (file.as_raw_fd(), 0),
            None => (-1, libc::MAP_ANONYMOUS),
        };
        // SAFETY: the range lies inside a mapping that this region owns, so MAP_FIXED replaces nothing else. Rust
        // holds no reference into guest memory; vm-memory reads and writes it through volatile accesses.
        let mapped = unsafe {
            libc::mmap(
                self.region.as_ptr().add(offset as usize).cast(),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE | kind,
                fd,
                file_offset,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(MemoryError::Map {
                len,
                source: io::Error::last_os_error(),
            });
        }
        Ok(())
    }
}
