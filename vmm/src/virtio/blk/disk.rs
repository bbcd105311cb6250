//! The file behind a disk. Data moves between it and guest memory without a copy.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::Errno;
use vm_memory::{GuestMemory as _, GuestMemoryMmap};

use super::SECTOR;
use super::request::Buffer;
use crate::virtio::vectors::vectors;

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    ToGuest,
    FromGuest,
}

/// A file of whole sectors.
pub(super) struct Disk {
    file: File,
    sectors: u64,
    read_only: bool,
    id: String,
}

impl Disk {
    pub(super) fn new(file: File, sectors: u64, read_only: bool, id: &str) -> Self {
        Self {
            file,
            sectors,
            read_only,
            id: id.to_owned(),
        }
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Position and length in bytes of `sectors` sectors from `sector`, where the disk has them.
    pub(super) fn range(&self, sector: u64, sectors: u64) -> Option<(u64, u64)> {
        let end = sector.checked_add(sectors)?;
        (end <= self.sectors).then(|| (sector * SECTOR, sectors * SECTOR))
    }

    /// Moves the bytes from `position` on into or out of `buffers`. A buffer outside of guest memory fails the whole
    /// transfer before anything moved.
    pub(super) fn transfer(
        &self,
        direction: Transfer,
        position: u64,
        memory: &GuestMemoryMmap,
        buffers: &[Buffer],
    ) -> io::Result<()> {
        if direction == Transfer::FromGuest {
            self.check_writable()?;
        }
        let parts = buffers.iter().filter(|buffer| buffer.len > 0).map(|buffer| {
            let part = memory.get_slice(buffer.gpa, buffer.len as usize);
            part.map_err(io::Error::other)
        });
        let mut vectors = vectors(&parts.collect::<io::Result<Vec<_>>>()?);
        let mut left = vectors.as_mut_slice();
        let mut position = position;
        while !left.is_empty() {
            let moved = self.move_once(direction, position, left)?;
            position += moved as u64;
            left = advance(left, moved);
        }
        Ok(())
    }

    /// One preadv(2) or pwritev(2).
    fn move_once(&self, direction: Transfer, position: u64, vectors: &[libc::iovec]) -> io::Result<usize> {
        let offset = libc::off_t::try_from(position).map_err(io::Error::other)?;
        // A request has at most MAX_SEGMENTS buffers, below the kernel's limit of 1024.
        let count = vectors.len() as libc::c_int;
        loop {
            // SAFETY: every vector is a range of guest memory that vm-memory has checked and that is never unmapped;
            // no Rust reference points into it.
            let moved = unsafe {
                match direction {
                    Transfer::ToGuest => libc::preadv(self.file.as_raw_fd(), vectors.as_ptr(), count, offset),
                    Transfer::FromGuest => {
                        libc::pwritev(self.file.as_raw_fd(), vectors.as_ptr(), count, offset)
                    }
                }
            };
            match usize::try_from(moved) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(moved) => return Ok(moved),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Makes what was written durable.
    pub(super) fn flush(&self) -> io::Result<()> {
        match self.read_only {
            true => Ok(()),
            false => Ok(fdatasync(&self.file)?),
        }
    }

    /// Gives the range back to the host: it reads as zeros.
    pub(super) fn discard(&self, begin: u64, len: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, begin, len)
    }

    /// Makes the range read as zeros; `unmap` allows to give it back to the host.
    pub(super) fn write_zeroes(&self, begin: u64, len: u64, unmap: bool) -> io::Result<()> {
        if unmap {
            return self.discard(begin, len);
        }
        match self.allocate(FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, begin, len) {
            // tmpfs has holes and no zero ranges; keeping the blocks is a wish, reading zeros is the duty.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.discard(begin, len),
            result => result,
        }
    }

    fn allocate(&self, flags: FallocateFlags, begin: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        if len == 0 {
            return Ok(());
        }
        loop {
            match fallocate(&self.file, flags, begin, len) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }
}

/// Length of a file or block device in bytes.
pub(super) fn length(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Drops the first `moved` bytes from `vectors`.
fn advance(vectors: &mut [libc::iovec], mut moved: usize) -> &mut [libc::iovec] {
    let mut whole = 0;
    while whole < vectors.len() && moved >= vectors[whole].iov_len {
        moved -= vectors[whole].iov_len;
        whole += 1;
    }
    let left = &mut vectors[whole..];
    if let Some(first) = left.first_mut() {
        // SAFETY: `moved` is less than the buffer's length, so the sum stays inside of it.
        first.iov_base = unsafe { first.iov_base.byte_add(moved) };
        first.iov_len -= moved;
    }
    left
}
