//! A checksum of a whole image: what was written can be told from what is there later.
//!
//! It is a CRC-32C over every block that is not all zeros: its address (u32, little endian), then its content;
//! block 0 comes last. So it is known as soon as an image is written, though its superblock is written at the
//! end, and the holes of a sparse file need not be read.

use crate::format::{BLOCK, BLOCK_U64};
use std::io::{self, Read, Seek, SeekFrom};

/// Blocks that are read at once.
const CHUNK: usize = 64 * BLOCK;

/// A checksum under way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Checksum(u32);

impl Checksum {
    /// Adds blocks from address `first` on; those that are zero make no difference.
    pub(crate) fn update(&mut self, first: u64, blocks: &[[u8; BLOCK]]) {
        for (address, block) in (first..).zip(blocks) {
            if !is_zero(block) {
                self.0 = crc32c::crc32c_append(self.0, &(address as u32).to_le_bytes());
                self.0 = crc32c::crc32c_append(self.0, block);
            }
        }
    }

    /// The checksum so far.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// Whether a block is a hole.
pub(crate) fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The checksum of the image in `input`, of which only the ranges of bytes that `data` yields are read: they
/// ascend, and everything outside them is zero. See [`Summary::checksum`](crate::Summary::checksum).
pub fn checksum<R: Read + Seek>(
    input: &mut R,
    data: impl IntoIterator<Item = io::Result<std::ops::Range<u64>>>,
) -> io::Result<u32> {
    let mut checksum = Checksum::default();
    let mut head = vec![0; BLOCK];
    let mut buffer = vec![0; CHUNK];
    // Ranges may begin and end inside a block: each block is read once, whole.
    let mut next = 0;
    for range in data {
        let range = range?;
        let end = range.end.next_multiple_of(BLOCK_U64);
        let mut offset = (range.start / BLOCK_U64 * BLOCK_U64).max(next);
        input.seek(SeekFrom::Start(offset))?;
        while offset < end {
            let length = buffer
                .len()
                .min(usize::try_from(end - offset).unwrap_or(usize::MAX));
            let chunk = &mut buffer[..length];
            input.read_exact(chunk)?;
            if offset == 0 {
                head.copy_from_slice(&chunk[..BLOCK]);
                chunk[..BLOCK].fill(0);
            }
            checksum.update(offset / BLOCK_U64, chunk.as_chunks::<BLOCK>().0);
            offset += length as u64;
        }
        next = next.max(end);
    }
    checksum.update(0, head.as_chunks::<BLOCK>().0);
    Ok(checksum.value())
}
