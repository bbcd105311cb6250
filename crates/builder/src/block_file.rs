//! A file that is read in many small pieces: one block of it is kept.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Inodes and directories are small and lie close together.
const BLOCK: u64 = 16 << 10;

/// A place in a file that others read, too: nothing is shared but the file.
#[derive(Debug, Clone)]
pub(crate) struct BlockFile {
    file: Arc<File>,
    position: u64,
    /// A block of the file and where it begins. It is short at the end of the file.
    block: Vec<u8>,
    start: u64,
}

impl BlockFile {
    pub(crate) fn new(file: Arc<File>) -> Self {
        Self {
            file,
            position: 0,
            block: Vec::new(),
            start: 0,
        }
    }

    /// What is left of the kept block at the position.
    fn kept(&self) -> &[u8] {
        let offset = self.position.checked_sub(self.start);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        offset
            .and_then(|offset| self.block.get(offset..))
            .unwrap_or_default()
    }

    fn fill(&mut self) -> io::Result<()> {
        self.start = self.position / BLOCK * BLOCK;
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK as usize, 0);
        let mut length = 0;
        while length < block.len() {
            match self
                .file
                .read_at(&mut block[length..], self.start + length as u64)
            {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        block.truncate(length);
        self.block = block;
        Ok(())
    }
}

impl Read for BlockFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.kept().is_empty() {
            if into.len() as u64 >= BLOCK {
                let count = self.file.read_at(into, self.position)?;
                self.position += count as u64;
                return Ok(count);
            }
            self.fill()?;
        }
        let kept = self.kept();
        let count = kept.len().min(into.len());
        into[..count].copy_from_slice(&kept[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for BlockFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = || self.file.metadata().map(|metadata| metadata.len());
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => end()?.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_read_is_what_the_file_has_wherever_it_is_read() {
        let content: Vec<u8> = (0..3 * BLOCK + 77).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let mut reader = BlockFile::new(Arc::new(file));
        for (position, length) in [
            (0, 5),
            (5, 3),
            (BLOCK - 2, 4),
            (0, 40_000),
            (3 * BLOCK + 70, 7),
            (1, 1),
        ] {
            reader.seek(SeekFrom::Start(position)).unwrap();
            let mut into = vec![0; length];
            reader.read_exact(&mut into).unwrap();
            assert_eq!(into, content[position as usize..][..length]);
        }
        assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), content.len() as u64 - 1);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, content[content.len() - 1..]);
    }
}
