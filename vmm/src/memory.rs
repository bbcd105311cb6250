//! Guest memory and the shared memory regions of devices.
//!
//! RAM is anonymous private memory, aligned and advised so that the host backs it with huge pages: a fault then brings
//! 2 MiB instead of 4 KiB, both into this process and into the guest's nested page table. (Shared memory, memfd
//! included, gets huge pages only where the administrator allows them for shmem, which few do.)
//!
//! Nothing here is ever unmapped: a VMM is one microVM, and both end together. That is what makes it sound to hand
//! addresses to KVM.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vm_memory::{
    GuestAddress, GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
};

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
    /// The length of a file with memory could not be found out.
    #[error("cannot find the length of the memory file: {0}")]
    File(io::Error),
    /// The regions do not form an address space.
    #[error("cannot lay out guest memory: {0}")]
    Layout(String),
    /// A part of RAM or of a shared region that is outside of it or not on page borders.
    #[error("{len} bytes at offset {offset} are no pages of {region} bytes of guest memory")]
    Range {
        /// Begin of the part.
        offset: u64,
        /// Length of the part.
        len: u64,
        /// Length of RAM, as far as its file reaches, or of the region.
        region: u64,
    },
}

/// Where RAM stops below 4 GiB, to leave room for devices and interrupt controllers; it goes on at 4 GiB.
pub const LOW_RAM_END: u64 = 3 << 30;

/// Where RAM goes on, and where shared regions lie when there is less of it.
pub const HIGH_BASE: u64 = 4 << 30;

/// A piece of RAM, counted from its beginning without the hole below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamPart {
    /// Where it begins.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl RamPart {
    /// Where the next one may begin; `None` for a part that cannot be.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

/// The guest physical address of the byte at `offset` of RAM.
pub fn ram_address(offset: u64) -> GuestAddress {
    GuestAddress(match offset.checked_sub(LOW_RAM_END) {
        None => offset,
        Some(above) => HIGH_BASE + above,
    })
}

/// Reads `part` of a file into the same part of RAM. It does not move the file's position, so that several threads may read.
pub fn read_into_ram(memory: &GuestMemoryMmap, file: &File, part: RamPart) -> io::Result<()> {
    let end = part.end().ok_or(io::ErrorKind::InvalidInput)?;
    let mut offset = part.offset;
    while offset < end {
        // A part does not cross the hole below 4 GiB at once: its two sides are two regions.
        let border = if offset < LOW_RAM_END {
            LOW_RAM_END
        } else {
            u64::MAX
        };
        let len = end.min(border) - offset;
        let slice = memory
            .get_slice(ram_address(offset), len as usize)
            .map_err(io::Error::other)?;
        // SAFETY: the slice is guest memory of this length, which is never unmapped, and no Rust reference points into it.
        let read = unsafe {
            libc::pread(
                file.as_raw_fd(),
                slice.ptr_guard_mut().as_ptr().cast(),
                slice.len(),
                libc::off_t::try_from(offset).map_err(io::Error::other)?,
            )
        };
        match u64::try_from(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => offset += read,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Guest physical regions in the order in which they are laid out.
#[derive(Default)]
pub struct MemoryLayout {
    regions: Vec<Arc<GuestRegionMmap>>,
    next_shared: u64,
}

impl MemoryLayout {
    /// Maps `len` bytes of RAM, a multiple of the page size.
    pub fn with_ram(len: u64) -> Result<Self, MemoryError> {
        let host = reserve(len, Backing::Huge)?;
        let low = len.min(LOW_RAM_END);
        let mut layout = Self {
            regions: vec![region(host, 0, low)?],
            next_shared: HIGH_BASE,
        };
        if len > low {
            // SAFETY: `low` is less than the length of the mapping at `host`.
            let host = unsafe { host.add(low as usize) };
            layout.regions.push(region(host, HIGH_BASE, len - low)?);
            layout.next_shared = (HIGH_BASE + len - low).next_multiple_of(HUGE_PAGE);
        }
        Ok(layout)
    }

    /// Shows `parts` of `file` at the same offsets of RAM: mapped privately, so that microVMs share the pages that they do
    /// not write to. The file must not change from now on. RAM is what [`with_ram`](Self::with_ram) made.
    pub fn map_ram(&self, file: &File, parts: &[RamPart]) -> Result<(), MemoryError> {
        let ram: u64 = self.regions.iter().map(|region| region.len()).sum();
        // A page behind the end of a file cannot be had: who touches it is killed.
        let room = ram.min(file.metadata().map_err(MemoryError::File)?.len());
        let host = self
            .regions
            .first()
            .map_or(std::ptr::null_mut(), |low| low.as_ptr());
        for part in parts {
            let fits = part.end().is_some_and(|end| end <= room);
            if !fits || part.len == 0 || !(part.offset | part.len).is_multiple_of(PAGE) {
                return Err(MemoryError::Range {
                    offset: part.offset,
                    len: part.len,
                    region: room,
                });
            }
            // SAFETY: the part lies in the RAM that was mapped as one piece at `host`, so MAP_FIXED replaces nothing
            // else; nothing refers to it yet. The sum stays inside of the mapping.
            unsafe { map_private(host.add(part.offset as usize), part.len, file, part.offset) }?;
        }
        Ok(())
    }

    /// Adds a shared memory region of `len` bytes, a multiple of [`HUGE_PAGE`], above everything else.
    pub fn add_shared(&mut self, len: u64) -> Result<SharedRegion, MemoryError> {
        if len == 0 || !len.is_multiple_of(HUGE_PAGE) {
            return Err(MemoryError::Layout(format!(
                "a shared region cannot have {len} bytes"
            )));
        }
        let end = self.next_shared.checked_add(len);
        let end =
            end.ok_or_else(|| MemoryError::Layout(format!("{len} bytes are too many for a shared region")))?;
        let region = region(reserve(len, Backing::Small)?, self.next_shared, len)?;
        self.next_shared = end;
        self.regions.push(Arc::clone(&region));
        Ok(SharedRegion { region })
    }

    /// The regions, RAM first.
    pub fn regions(&self) -> &[Arc<GuestRegionMmap>] {
        &self.regions
    }

    /// All regions as one address space.
    pub fn finish(self) -> Result<GuestMemory, MemoryError> {
        let memory = GuestMemoryMmap::from_arc_regions(self.regions);
        memory
            .map(Arc::new)
            .map_err(|error| MemoryError::Layout(error.to_string()))
    }
}

/// The pages that back a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backing {
    Huge,
    Small,
}

/// Maps zeroed private memory at a huge page's border.
fn reserve(len: u64, backing: Backing) -> Result<*mut u8, MemoryError> {
    let error = || MemoryError::Map {
        len,
        source: io::Error::last_os_error(),
    };
    let Ok(padded) = usize::try_from(len.saturating_add(HUGE_PAGE)) else {
        return Err(MemoryError::Layout(format!(
            "{len} bytes do not fit an address space"
        )));
    };
    // SAFETY: a new mapping at an address that the kernel chooses.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            padded,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(error());
    }
    let aligned = (mapped as usize).next_multiple_of(HUGE_PAGE as usize);
    let advice = match backing {
        Backing::Huge => libc::MADV_HUGEPAGE,
        Backing::Small => libc::MADV_NOHUGEPAGE,
    };
    // A kernel without huge pages refuses the advice (EINVAL) and is right to.
    // SAFETY: the padding has room for the alignment, so the range lies in the new mapping.
    unsafe { libc::madvise(aligned as *mut libc::c_void, len as usize, advice) };
    Ok(aligned as *mut u8)
}

/// Replaces mapped memory by a private mapping of a file.
///
/// # Safety
/// `host` and the `len` bytes from there lie in a mapping of guest memory, and no Rust reference points into it.
unsafe fn map_private(host: *mut u8, len: u64, file: &impl AsRawFd, offset: u64) -> Result<(), MemoryError> {
    // SAFETY: by the contract of this function.
    let mapped = unsafe {
        libc::mmap(
            host.cast(),
            len as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset as libc::off_t,
        )
    };
    match mapped {
        libc::MAP_FAILED => Err(MemoryError::Map {
            len,
            source: io::Error::last_os_error(),
        }),
        _ => Ok(()),
    }
}

/// Pages at `gpa` that are no memory to devices: what the guest reads of them.
pub fn device_pages(gpa: u64, len: u64) -> Result<Arc<GuestRegionMmap>, MemoryError> {
    region(reserve(len, Backing::Small)?, gpa, len)
}

/// Describes `len` bytes at `host` as the guest's physical memory at `gpa`.
fn region(host: *mut u8, gpa: u64, len: u64) -> Result<Arc<GuestRegionMmap>, MemoryError> {
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: the callers pass a part of a mapping that is never unmapped.
    let mapping = unsafe { MmapRegion::build_raw(host, len as usize, prot, flags) };
    let mapping = mapping.map_err(|error| MemoryError::Layout(error.to_string()))?;
    GuestRegionMmap::new(mapping, GuestAddress(gpa))
        .map(Arc::new)
        .ok_or_else(|| MemoryError::Layout(format!("{len} bytes at {gpa:#x} do not fit an address space")))
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
        self.region.len()
    }

    /// The guest physical address of its first byte.
    pub fn gpa(&self) -> u64 {
        self.region.start_addr().0
    }

    /// Shows `len` bytes of `file` from `file_offset` at `offset` of the region, all three multiples of the page size.
    /// What stood there is replaced. The file must not shrink while it is mapped.
    pub fn map(
        &self,
        offset: u64,
        len: u64,
        file: &impl AsRawFd,
        file_offset: u64,
    ) -> Result<(), MemoryError> {
        self.replace(offset, len, Some((file.as_raw_fd(), file_offset)))
    }

    /// Replaces a part of the region by zeroed memory.
    pub fn unmap(&self, offset: u64, len: u64) -> Result<(), MemoryError> {
        self.replace(offset, len, None)
    }

    fn replace(&self, offset: u64, len: u64, file: Option<(RawFd, u64)>) -> Result<(), MemoryError> {
        let range = MemoryError::Range {
            offset,
            len,
            region: self.len(),
        };
        let end = offset.checked_add(len).filter(|end| *end <= self.len());
        let file_offset = file.map_or(0, |(_, file_offset)| file_offset);
        if end.is_none() || len == 0 || !(offset | len | file_offset).is_multiple_of(PAGE) {
            return Err(range);
        }
        let Ok(file_offset) = libc::off_t::try_from(file_offset) else {
            return Err(range);
        };
        let (fd, kind) = match file {
            Some((fd, _)) => (fd, 0),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use vm_memory::Bytes;

    const MIB: u64 = 1 << 20;

    #[test]
    fn ram_has_a_hole_below_4_gib_and_every_part_is_aligned() {
        let layout = MemoryLayout::with_ram(LOW_RAM_END + 256 * MIB).unwrap();
        let parts: Vec<(u64, u64)> = layout
            .regions()
            .iter()
            .map(|region| (region.start_addr().0, region.len()))
            .collect();
        assert_eq!(parts, [(0, LOW_RAM_END), (HIGH_BASE, 256 * MIB)]);
        for region in layout.regions() {
            assert!((MmapRegion::as_ptr(region) as u64).is_multiple_of(HUGE_PAGE));
        }
    }

    #[test]
    fn shared_regions_lie_above_ram_and_are_whole_huge_pages() {
        let mut layout = MemoryLayout::with_ram(33 * MIB).unwrap();
        assert_eq!(layout.add_shared(4 * MIB).unwrap().gpa(), HIGH_BASE);
        assert_eq!(layout.add_shared(2 * MIB).unwrap().gpa(), HIGH_BASE + 4 * MIB);
        for len in [0, 1, MIB, u64::MAX, !(HUGE_PAGE - 1)] {
            assert!(layout.add_shared(len).is_err(), "{len}");
        }
        let memory = layout.finish().unwrap();
        assert!(memory.address_in_range(GuestAddress(HIGH_BASE + 6 * MIB - 1)));
        assert!(!memory.address_in_range(GuestAddress(HIGH_BASE + 6 * MIB)));
    }

    #[test]
    fn a_mapped_file_is_seen_and_never_changed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        let mut layout = MemoryLayout::with_ram(MIB).unwrap();
        let window = layout.add_shared(HUGE_PAGE).unwrap();
        let memory = layout.finish().unwrap();
        let at = GuestAddress(window.gpa() + 4096);
        window.map(4096, 4096, &file, 4096).unwrap();
        assert_eq!(memory.read_obj::<u8>(at).unwrap(), 7);
        memory.write_obj(1u8, at).unwrap();
        window.map(4096, 4096, &file, 4096).unwrap();
        assert_eq!(
            memory.read_obj::<u8>(at).unwrap(),
            7,
            "a write stays in the window"
        );
        window.unmap(4096, 4096).unwrap();
        assert_eq!(memory.read_obj::<u8>(at).unwrap(), 0);
    }

    #[test]
    fn parts_outside_of_a_window_or_off_page_borders_are_refused() {
        let file = tempfile::tempfile().unwrap();
        let window = MemoryLayout::with_ram(MIB)
            .unwrap()
            .add_shared(HUGE_PAGE)
            .unwrap();
        for (offset, len, file_offset) in [
            (0, 0, 0),
            (0, HUGE_PAGE + 4096, 0),
            (HUGE_PAGE, 4096, 0),
            (1, 4096, 0),
            (0, 4095, 0),
            (0, 4096, 1),
            (u64::MAX - 4095, 4096, 0),
            (0, 4096, u64::MAX - 4095),
        ] {
            assert!(
                window.map(offset, len, &file, file_offset).is_err(),
                "{offset} {len} {file_offset}"
            );
        }
        assert!(window.unmap(HUGE_PAGE, 4096).is_err());
    }
}
