//! The memory of a VM snapshot.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use thiserror::Error;
use vm_memory::{Bytes, GuestMemoryError, GuestMemoryMmap};

use crate::memory::{HUGE_PAGE, RamPart, ram_address};

/// Memory could not be written.
#[derive(Debug, Error)]
pub enum RamError {
    /// The file could not be written.
    #[error("cannot write the memory of the VM snapshot: {0}")]
    Write(#[from] io::Error),
    /// Guest memory is shorter than it should be.
    #[error("cannot read guest memory: {0}")]
    Read(#[from] GuestMemoryError),
}

/// Writes the RAM of a microVM at rest, `ram` bytes, to a file that it replaces the content of. Returns the parts that hold
/// anything: whole huge pages, neighbours joined. The rest of the file are holes.
///
/// A part has all its bytes in the file, zeros too: a hole that is mapped would be filled by its first reader, in the file
/// that all share.
pub fn write_ram(memory: &GuestMemoryMmap, ram: u64, mut file: &File) -> Result<Vec<RamPart>, RamError> {
    file.set_len(0)?;
    file.set_len(ram)?;
    let mut parts: Vec<RamPart> = Vec::new();
    let mut chunk = Vec::new();
    for offset in (0..ram).step_by(HUGE_PAGE as usize) {
        let len = HUGE_PAGE.min(ram - offset);
        // The hole below 4 GiB begins and ends at a huge page's border.
        chunk.resize(len as usize, 0);
        memory.read_slice(&mut chunk, ram_address(offset))?;
        if chunk.iter().all(|byte| *byte == 0) {
            continue;
        }
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&chunk)?;
        match parts.last_mut().filter(|last| last.offset + last.len == offset) {
            Some(last) => last.len += len,
            None => parts.push(RamPart { offset, len }),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{HIGH_BASE, LOW_RAM_END, MemoryLayout};
    use std::os::unix::fs::MetadataExt;
    use vm_memory::GuestAddress;

    #[test]
    fn memory_comes_back_and_only_what_was_used_takes_room() {
        let ram = LOW_RAM_END + 6 * HUGE_PAGE;
        let memory = MemoryLayout::with_ram(ram).unwrap().finish().unwrap();
        let marks = [
            5,
            HUGE_PAGE - 1,
            HUGE_PAGE + 7,
            LOW_RAM_END - 1,
            HIGH_BASE + 3 * HUGE_PAGE,
        ];
        for (value, at) in (1u8..).zip(marks) {
            memory.write_obj(value, GuestAddress(at)).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        let parts = write_ram(&memory, ram, &file).unwrap();
        let part = |offset, len| RamPart { offset, len };
        assert_eq!(
            parts,
            [
                part(0, 2 * HUGE_PAGE),
                part(LOW_RAM_END - HUGE_PAGE, HUGE_PAGE),
                part(LOW_RAM_END + 3 * HUGE_PAGE, HUGE_PAGE)
            ]
        );
        assert!(file.metadata().unwrap().blocks() * 512 <= 5 * HUGE_PAGE);
        let layout = MemoryLayout::with_ram(ram).unwrap();
        layout.fill_ram(&file, &parts).unwrap();
        let restored = layout.finish().unwrap();
        for (value, at) in (1u8..).zip(marks) {
            assert_eq!(restored.read_obj::<u8>(GuestAddress(at)).unwrap(), value, "{at:#x}");
            restored.write_obj(0u8, GuestAddress(at)).unwrap();
            assert_eq!(memory.read_obj::<u8>(GuestAddress(at)).unwrap(), value, "not shared");
        }
    }

    #[test]
    fn parts_that_are_not_in_ram_or_not_in_the_file_are_refused() {
        let layout = MemoryLayout::with_ram(8 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        let fill = |offset, len| layout.fill_ram(&file, &[RamPart { offset, len }]);
        fill(0, 8 << 20).unwrap();
        for (offset, len) in [
            (0, 0),
            (0, (8 << 20) + 4096),
            (8 << 20, 4096),
            (1, 4096),
            (0, 4095),
            (u64::MAX - 4095, 4096),
        ] {
            assert!(fill(offset, len).is_err(), "{offset} {len}");
        }
        file.set_len((8 << 20) - 1).unwrap();
        assert!(fill(0, 8 << 20).is_err(), "the file is too short");
    }
}
