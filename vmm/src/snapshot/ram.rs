//! The memory of a VM snapshot.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use thiserror::Error;
use vm_memory::{Bytes, GuestMemoryError, GuestMemoryMmap};

use crate::memory::{HUGE_PAGE, RamPart, ram_address, read_into_ram};

/// The smallest part that is told from its surroundings, in bytes: reading a little too much is cheaper than one more read.
const GRAIN: u64 = 32 << 10;

/// Memory could not be written or read.
#[derive(Debug, Error)]
pub enum RamError {
    /// The file could not be written.
    #[error("cannot write the memory of the VM snapshot: {0}")]
    Write(io::Error),
    /// The file could not be read.
    #[error("cannot read the memory of the VM snapshot: {0}")]
    Read(io::Error),
    /// Guest memory is shorter than it should be.
    #[error("cannot read guest memory: {0}")]
    Guest(#[from] GuestMemoryError),
}

/// Writes the RAM of a microVM at rest, `ram` bytes, to a file that it replaces the content of. Returns what of it holds
/// anything and is not `text`.
///
/// A huge page that holds anything is in the file with all its bytes, zeros too: a hole that is mapped would be filled by its
/// first reader, in the file that all share. The others are holes.
pub fn write_ram(
    memory: &GuestMemoryMmap,
    ram: u64,
    text: &[RamPart],
    mut file: &File,
) -> Result<Vec<RamPart>, RamError> {
    file.set_len(0)
        .and_then(|()| file.set_len(ram))
        .map_err(RamError::Write)?;
    let mut used = Parts::default();
    let mut page = Vec::new();
    for offset in (0..ram).step_by(HUGE_PAGE as usize) {
        page.resize(HUGE_PAGE.min(ram - offset) as usize, 0);
        // The hole below 4 GiB begins and ends at a huge page's border.
        memory.read_slice(&mut page, ram_address(offset))?;
        let is_text = text.iter().any(|part| contains(part, offset));
        if !is_text && is_zero(&page) {
            continue;
        }
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.write_all(&page))
            .map_err(RamError::Write)?;
        for (index, grain) in (0..).zip(page.chunks(GRAIN as usize)) {
            if !is_text && !is_zero(grain) {
                used.add(offset + index * GRAIN, grain.len() as u64);
            }
        }
    }
    Ok(used.0)
}

/// Copies parts of a memory file to the same places in RAM.
pub fn read_ram(memory: &GuestMemoryMmap, file: &File, parts: &[RamPart]) -> Result<(), RamError> {
    parts
        .iter()
        .try_for_each(|part| read_into_ram(memory, file, *part))
        .map_err(RamError::Read)
}

/// Cuts a list of parts into at most `count` lists of about the same number of bytes.
pub fn share_out(parts: &[RamPart], count: u64) -> Vec<&[RamPart]> {
    let total: u64 = parts.iter().map(|part| part.len).sum();
    let mut shares = Vec::new();
    let (mut rest, mut taken) = (parts, 0);
    for share in 1..=count {
        let end = rest
            .iter()
            .position(|part| {
                let full = taken >= total * share / count;
                taken += if full { 0 } else { part.len };
                full
            })
            .unwrap_or(rest.len());
        let (begin, after) = rest.split_at(end);
        shares.push(begin);
        rest = after;
    }
    shares.retain(|share| !share.is_empty());
    shares
}

/// The huge pages that these parts lie in, neighbours joined; of the last one what `ram` bytes have.
pub fn whole_huge_pages(parts: &[RamPart], ram: u64) -> Vec<RamPart> {
    let mut whole = Parts::default();
    for part in parts {
        let begin = part.offset / HUGE_PAGE * HUGE_PAGE;
        let end = part
            .offset
            .saturating_add(part.len)
            .div_ceil(HUGE_PAGE)
            .saturating_mul(HUGE_PAGE);
        whole.add(begin, end.min(ram).saturating_sub(begin));
    }
    whole.0
}

/// Parts in their order, neighbours joined.
#[derive(Default)]
struct Parts(Vec<RamPart>);

impl Parts {
    fn add(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        match self
            .0
            .last_mut()
            .filter(|last| last.end() >= Some(offset) && last.offset <= offset)
        {
            Some(last) => last.len = last.len.max(end - last.offset),
            None => self.0.push(RamPart { offset, len }),
        }
    }
}

fn contains(part: &RamPart, offset: u64) -> bool {
    part.offset <= offset && Some(offset) < part.end()
}

fn is_zero(bytes: &[u8]) -> bool {
    // A byte at a time would take seconds for the memory of a microVM on an emulated processor.
    bytes
        .chunks(64)
        .all(|line| line.iter().fold(0, |bits, byte| bits | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{GuestMemory, HIGH_BASE, LOW_RAM_END, MemoryLayout};
    use std::os::unix::fs::MetadataExt;
    use vm_memory::GuestAddress;

    const RAM: u64 = LOW_RAM_END + 6 * HUGE_PAGE;

    /// Addresses that hold something, and one in the text.
    const MARKS: [u64; 5] = [
        5,
        HUGE_PAGE - 1,
        2 * HUGE_PAGE + 7,
        LOW_RAM_END - 1,
        HIGH_BASE + 3 * HUGE_PAGE,
    ];
    const TEXT: RamPart = part(2 * HUGE_PAGE, HUGE_PAGE);

    const fn part(offset: u64, len: u64) -> RamPart {
        RamPart { offset, len }
    }

    fn saved() -> (GuestMemory, File, Vec<RamPart>) {
        let memory = MemoryLayout::with_ram(RAM).unwrap().finish().unwrap();
        for (value, at) in (1u8..).zip(MARKS) {
            memory.write_obj(value, GuestAddress(at)).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        let used = write_ram(&memory, RAM, &[TEXT], &file).unwrap();
        (memory, file, used)
    }

    fn check(memory: &GuestMemoryMmap, others: &GuestMemoryMmap) {
        for (value, at) in (1u8..).zip(MARKS) {
            let at = GuestAddress(at);
            assert_eq!(memory.read_obj::<u8>(at).unwrap(), value, "{at:?}");
            memory.write_obj(0u8, at).unwrap();
            assert_eq!(others.read_obj::<u8>(at).unwrap(), value, "not shared");
        }
    }

    #[test]
    fn only_what_was_used_takes_room_and_is_named() {
        let (_, file, used) = saved();
        assert_eq!(
            used,
            [
                part(0, GRAIN),
                part(HUGE_PAGE - GRAIN, GRAIN),
                part(LOW_RAM_END - GRAIN, GRAIN),
                part(LOW_RAM_END + 3 * HUGE_PAGE, GRAIN)
            ]
        );
        assert_eq!(file.metadata().unwrap().len(), RAM);
        assert!(file.metadata().unwrap().blocks() * 512 <= 4 * HUGE_PAGE);
    }

    #[test]
    fn memory_comes_back_whether_it_is_mapped_or_copied() {
        let (memory, file, used) = saved();
        let mapped = MemoryLayout::with_ram(RAM).unwrap();
        mapped.map_ram(&file, &whole_huge_pages(&used, RAM)).unwrap();
        mapped.map_ram(&file, &[TEXT]).unwrap();
        check(&mapped.finish().unwrap(), &memory);
        let copied = MemoryLayout::with_ram(RAM).unwrap();
        copied.map_ram(&file, &[TEXT]).unwrap();
        let copied = copied.finish().unwrap();
        read_ram(&copied, &file, &used).unwrap();
        check(&copied, &memory);
    }

    #[test]
    fn huge_pages_are_joined_and_end_with_ram() {
        let ram = 4 * HUGE_PAGE + 4096;
        let parts = [
            part(4096, 4096),
            part(8192, 4096),
            part(HUGE_PAGE + 1, 1),
            part(ram - 1, 1),
        ];
        assert_eq!(
            whole_huge_pages(&parts, ram),
            [part(0, 2 * HUGE_PAGE), part(4 * HUGE_PAGE, 4096)]
        );
        // What a damaged state may hold is for `map_ram` to refuse.
        whole_huge_pages(&[part(u64::MAX, u64::MAX), part(0, 0)], ram);
    }

    #[test]
    fn parts_are_shared_out_in_their_order_and_none_is_lost() {
        let parts: Vec<RamPart> = (0..7).map(|index| part(index * 100, 10 + index)).collect();
        for count in 1..10 {
            let shares = share_out(&parts, count);
            assert!(shares.len() as u64 <= count);
            assert_eq!(shares.concat(), parts, "{count}");
        }
        let halves = share_out(&parts, 2);
        assert_eq!(halves.iter().map(|share| share.len()).collect::<Vec<_>>(), [4, 3]);
        assert!(share_out(&[], 2).is_empty());
    }

    #[test]
    fn parts_that_are_not_in_ram_or_not_in_the_file_are_refused() {
        let layout = MemoryLayout::with_ram(8 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        let map = |offset, len| layout.map_ram(&file, &[part(offset, len)]);
        map(0, 8 << 20).unwrap();
        let bad = [
            (0, 0),
            (0, (8 << 20) + 4096),
            (8 << 20, 4096),
            (1, 4096),
            (0, 4095),
            (u64::MAX - 4095, 4096),
        ];
        for (offset, len) in bad {
            assert!(map(offset, len).is_err(), "{offset} {len}");
        }
        file.set_len((8 << 20) - 1).unwrap();
        assert!(map(0, 8 << 20).is_err(), "the file is too short");
        let memory = MemoryLayout::with_ram(8 << 20).unwrap().finish().unwrap();
        for part in [part(0, 8 << 20), part(8 << 20, 4096), part(u64::MAX - 4095, 4096)] {
            assert!(read_ram(&memory, &file, &[part]).is_err(), "{part:?}");
        }
    }
}
