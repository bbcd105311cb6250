//! Directory content: blocks of entries, each block `[entry…][name…]`, names in ascending byte order over
//! the whole directory so that the kernel finds one by two binary searches.

use crate::format::{BLOCK, DIRENT, get16, get64, put16, put64};
use crate::metadata::FileType;

/// One entry to write or as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dirent<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) nid: u64,
    pub(crate) file_type: FileType,
}

/// Adds up the size of a directory whose names are offered in order, without building it.
#[derive(Default)]
pub(crate) struct DirectorySize {
    full_blocks: usize,
    used: usize,
}

impl DirectorySize {
    /// Takes the next name; true when it opens a new block.
    pub(crate) fn push(&mut self, name: &[u8]) -> bool {
        let size = DIRENT + name.len();
        let opens = self.used + size > BLOCK;
        if opens {
            self.full_blocks += 1;
            self.used = 0;
        }
        self.used += size;
        opens
    }

    /// The directory's size in bytes: all blocks but the last count as full.
    pub(crate) fn bytes(&self) -> usize {
        self.full_blocks * BLOCK + self.used
    }
}

/// The content of one block with `entries`, in ascending order of their names, `.` and `..` among those of a directory.
/// It is not filled up.
pub(crate) fn encode_block(entries: &[Dirent<'_>]) -> Vec<u8> {
    let mut content = Vec::with_capacity(BLOCK);
    let mut name_offset = entries.len() * DIRENT;
    for entry in entries {
        let mut record = [0; DIRENT];
        put64(&mut record, 0, entry.nid);
        put16(&mut record, 8, name_offset as u16);
        record[10] = entry.file_type.dirent_code();
        content.extend_from_slice(&record);
        name_offset += entry.name.len();
    }
    for entry in entries {
        content.extend_from_slice(entry.name);
    }
    content
}

/// The entries of one directory block, which is shorter than a block only at the directory's end; `None`
/// when offsets, types or names make no sense.
pub(crate) fn decode_block(block: &[u8]) -> Option<Vec<Dirent<'_>>> {
    let names_start = usize::from(get16(block.get(..DIRENT)?, 8));
    if names_start == 0 || !names_start.is_multiple_of(DIRENT) {
        return None;
    }
    let (records, _) = block.get(..names_start)?.as_chunks::<DIRENT>();
    let mut entries = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let start = usize::from(get16(record, 8));
        let name = match records.get(index + 1) {
            Some(next) => block.get(start..usize::from(get16(next, 8)))?,
            None => block.get(start..)?.split(|byte| *byte == 0).next()?,
        };
        let file_type = FileType::from_dirent_code(record[10])?;
        if name.is_empty() || name.contains(&b'/') {
            return None;
        }
        entries.push(Dirent {
            name,
            nid: get64(record, 0),
            file_type,
        });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(content: &[u8]) -> Vec<Dirent<'_>> {
        content
            .chunks(BLOCK)
            .flat_map(|block| decode_block(block).unwrap())
            .collect()
    }

    /// All blocks, as a directory has them.
    fn encode(entries: &[Dirent<'_>]) -> Vec<u8> {
        let (mut size, mut content) = (DirectorySize::default(), Vec::new());
        let mut first = 0;
        for (next, entry) in entries.iter().enumerate() {
            if size.push(entry.name) {
                content.extend(encode_block(&entries[first..next]));
                content.resize(content.len().next_multiple_of(BLOCK), 0);
                first = next;
            }
        }
        content.extend(encode_block(&entries[first..]));
        assert_eq!(content.len(), size.bytes());
        content
    }

    #[test]
    fn entries_survive_in_one_and_in_many_blocks() {
        for count in [2usize, 100, 2000] {
            let names: Vec<_> = (0..count)
                .map(|n| format!("{n:06}{}", "x".repeat(n % 200)))
                .collect();
            let entries: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(n, name)| Dirent {
                    name: name.as_bytes(),
                    nid: n as u64 * 7,
                    file_type: FileType::Regular,
                })
                .collect();
            assert_eq!(decode(&encode(&entries)), entries);
        }
    }

    #[test]
    fn a_block_filled_to_its_last_byte_is_one_block() {
        // 15 entries of 12 + 255 bytes leave 91: one more name of 79 bytes.
        let mut names: Vec<_> = (0..15).map(|n| format!("{n:0255}").into_bytes()).collect();
        names.push(vec![b'z'; 79]);
        let entries: Vec<_> = names
            .iter()
            .map(|name| Dirent {
                name,
                nid: 1,
                file_type: FileType::Fifo,
            })
            .collect();
        let content = encode(&entries);
        assert_eq!(content.len(), BLOCK);
        assert_eq!(decode(&content), entries);
    }

    #[test]
    fn nonsense_blocks_are_refused() {
        let entry = [Dirent {
            name: b"a",
            nid: 1,
            file_type: FileType::Regular,
        }];
        let good = encode(&entry);
        for (at, value) in [(8, 0), (8, 11), (8, 200), (10, 0), (10, 9), (12, b'/'), (12, 0)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(decode_block(&bad), None, "byte {at} = {value}");
        }
        assert_eq!(decode_block(&good[..5]), None);
        assert_eq!(decode_block(&[]), None);
    }
}
