//! Records of any length in a file, the pages that were used last in memory: what does not fit in memory for an image of
//! a million files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The unit of reading and writing, in bytes.
const PAGE: usize = 4096;
/// Pages in memory: 4 MiB.
const CACHED: u64 = 1024;
/// Records begin at multiples of this, so that a 32-bit number names each of 32 GiB.
const ALIGNMENT: usize = 8;

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId(u32);

impl RecordId {
    /// The first record.
    pub(crate) const FIRST: Self = Self(0);

    /// The form in other records; 0 stands for none, because nothing leads to the first record that way.
    pub(crate) fn encode(id: Option<Self>) -> u32 {
        id.map_or(0, |id| id.0)
    }

    pub(crate) fn decode(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    fn offset(self) -> u64 {
        u64::from(self.0) * ALIGNMENT as u64
    }
}

/// Records one behind the other. None is ever removed.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Where pages go that have no place in memory; without one all have.
    file: Option<File>,
    length: u64,
    /// A page has one slot where it may be, by its number.
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    page: u64,
    dirty: bool,
    bytes: Box<[u8; PAGE]>,
}

impl Slot {
    fn new(page: u64) -> Self {
        Self {
            page,
            dirty: false,
            bytes: Box::new([0; PAGE]),
        }
    }
}

impl Scratch {
    /// In `file`, which is empty and used by nobody else, or else in memory alone.
    pub(crate) fn new(file: Option<File>) -> Self {
        Self {
            file,
            length: 0,
            slots: Vec::new(),
        }
    }

    /// A further record; an error of the kind [`io::ErrorKind::FileTooLarge`] when there are too many.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<RecordId> {
        let start = self.length.next_multiple_of(ALIGNMENT as u64);
        let id = u32::try_from(start / ALIGNMENT as u64).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.length = start + record.len() as u64;
        self.write(RecordId(id), 0, record)?;
        Ok(RecordId(id))
    }

    /// Reads from byte `at` of a record on.
    pub(crate) fn read(&mut self, id: RecordId, at: usize, mut into: &mut [u8]) -> io::Result<()> {
        let mut offset = id.offset() + at as u64;
        while !into.is_empty() {
            let (page, start) = place(offset);
            let (now, later) = into.split_at_mut(into.len().min(PAGE - start));
            now.copy_from_slice(&self.slot(page)?.bytes[start..start + now.len()]);
            offset += now.len() as u64;
            into = later;
        }
        Ok(())
    }

    /// Writes over a record from its byte `at` on.
    pub(crate) fn write(&mut self, id: RecordId, at: usize, mut bytes: &[u8]) -> io::Result<()> {
        let mut offset = id.offset() + at as u64;
        while !bytes.is_empty() {
            let (page, start) = place(offset);
            let (now, later) = bytes.split_at(bytes.len().min(PAGE - start));
            let slot = self.slot(page)?;
            slot.dirty = true;
            slot.bytes[start..start + now.len()].copy_from_slice(now);
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// A record of bytes that knows its own length.
    pub(crate) fn append_bytes(&mut self, bytes: &[u8]) -> io::Result<RecordId> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.append(&[&length.to_le_bytes(), bytes].concat())
    }

    /// The bytes of [`Scratch::append_bytes`].
    pub(crate) fn bytes(&mut self, id: RecordId) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes_length(id)?];
        self.read(id, 4, &mut bytes)?;
        Ok(bytes)
    }

    /// Their length.
    pub(crate) fn bytes_length(&mut self, id: RecordId) -> io::Result<usize> {
        let mut length = [0; 4];
        self.read(id, 0, &mut length)?;
        Ok(u32::from_le_bytes(length) as usize)
    }

    /// The slot of a page, with the page in it. Pages come into being one after the other.
    fn slot(&mut self, page: u64) -> io::Result<&mut Slot> {
        let index = match &self.file {
            Some(_) => page % CACHED,
            None => page,
        };
        let index = usize::try_from(index).map_err(|_| io::ErrorKind::FileTooLarge)?;
        while self.slots.len() <= index {
            self.slots.push(Slot::new(self.slots.len() as u64));
        }
        let slot = &mut self.slots[index];
        if let (Some(file), true) = (&self.file, slot.page != page) {
            if slot.dirty {
                file.write_all_at(&*slot.bytes, slot.page * PAGE as u64)?;
                slot.dirty = false;
            }
            // The slot is of no page until the read has ended well.
            slot.page = u64::MAX;
            read_page(file, page, &mut slot.bytes)?;
            slot.page = page;
        }
        Ok(slot)
    }
}

/// Reads a page; one that was never written is zero.
fn read_page(file: &File, page: u64, into: &mut [u8; PAGE]) -> io::Result<()> {
    let mut read = 0;
    while read < PAGE {
        match file.read_at(&mut into[read..], page * PAGE as u64 + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    into[read..].fill(0);
    Ok(())
}

/// The page of a byte, and where it is in that.
fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of all lengths, many times what is held in memory.
    fn fill(mut scratch: Scratch) {
        let record = |n: usize| vec![n as u8; n % 9000];
        let ids: Vec<_> = (0..4000)
            .map(|n| scratch.append_bytes(&record(n)).unwrap())
            .collect();
        for n in (0..ids.len()).step_by(7) {
            scratch.write(ids[n], 4, &vec![!(n as u8); n % 9000]).unwrap();
        }
        for n in (0..ids.len()).rev() {
            let expected = match n % 7 {
                0 => vec![!(n as u8); n % 9000],
                _ => record(n),
            };
            assert_eq!(scratch.bytes(ids[n]).unwrap(), expected, "{n}");
        }
        let held = scratch.slots.len() as u64;
        assert!(scratch.file.is_none() || held == CACHED, "{held} pages in memory");
    }

    #[test]
    fn records_are_read_as_they_were_written_last() {
        fill(Scratch::new(None));
        fill(Scratch::new(Some(tempfile::tempfile().unwrap())));
    }

    #[test]
    fn an_error_of_the_file_is_told_and_nothing_wrong_is_read() {
        let read_only = File::open("/dev/null").unwrap();
        let mut scratch = Scratch::new(Some(read_only));
        let first = scratch.append_bytes(b"first").unwrap();
        let mut results = (0..2 * CACHED).map(|_| scratch.append_bytes(&[1; PAGE]).map(drop));
        assert!(results.any(|result| result.is_err()));
        assert!(scratch.bytes(first).is_ok_and(|bytes| bytes == b"first"));
    }
}
