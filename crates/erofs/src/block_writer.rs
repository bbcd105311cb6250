//! The output of a writer: sequential, buffered, whole blocks, holes where blocks are zero.

use crate::checksum::{Checksum, is_zero};
use crate::format::{BLOCK, BLOCK_U64};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes held back before they go to the output. A multiple of the block size.
const BUFFER: usize = 256 * 1024;

/// Why [`BlockWriter::copy_from`] stopped.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// The source failed.
    Input(io::Error),
    /// The output failed.
    Output(io::Error),
}

/// Writes a stream of bytes at ascending offsets. Blocks that are all zero are skipped with a seek, so that
/// an output that starts empty becomes a sparse file.
pub(crate) struct BlockWriter<W> {
    output: W,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte in the output; a multiple of the block size.
    flushed: u64,
    /// The end of the last byte that was really written.
    written_to: u64,
    checksum: Checksum,
}

impl<W: Write + Seek> BlockWriter<W> {
    /// Starts at block `first`.
    pub(crate) fn new(output: W, first: u32) -> Self {
        let flushed = u64::from(first) * BLOCK_U64;
        Self {
            output,
            buffer: Vec::with_capacity(BUFFER),
            flushed,
            written_to: 0,
            checksum: Checksum::default(),
        }
    }

    /// The offset of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Appends `bytes`.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            self.flush_if_full()?;
            bytes = later;
        }
        Ok(())
    }

    /// Appends what `input` yields, at most `limit` bytes; returns how many there were.
    pub(crate) fn copy_from(&mut self, input: &mut dyn Read, limit: u64) -> Result<u64, CopyError> {
        let mut copied = 0;
        while copied < limit {
            let start = self.buffer.len();
            let room = (BUFFER - start).min(usize::try_from(limit - copied).unwrap_or(usize::MAX));
            self.buffer.resize(start + room, 0);
            let read = read_some(input, &mut self.buffer[start..]);
            self.buffer
                .truncate(start + read.as_ref().map_or(0, |count| *count));
            match read.map_err(CopyError::Input)? {
                0 => break,
                count => copied += count as u64,
            }
            self.flush_if_full().map_err(CopyError::Output)?;
        }
        Ok(copied)
    }

    /// Fills the last block with zeros and returns the address of the next.
    pub(crate) fn align(&mut self) -> io::Result<u64> {
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK), 0);
        self.flush_if_full()?;
        Ok(self.position() / BLOCK_U64)
    }

    /// Writes out everything and `head` as block 0, then hands the output back, with the checksum of it all. The
    /// last block is written even when it is zero, so that the output has its full length.
    pub(crate) fn finish(mut self, head: &[u8; BLOCK]) -> io::Result<(W, u32)> {
        self.align()?;
        self.flush()?;
        if self.written_to < self.flushed {
            self.write_at(self.flushed - BLOCK_U64, &[0; BLOCK])?;
        }
        self.write_at(0, head)?;
        self.checksum.update(0, &[*head]);
        self.output.flush()?;
        Ok((self.output, self.checksum.value()))
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() == BUFFER {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes the buffer, a whole number of blocks, in runs between zero blocks.
    fn flush(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (blocks, _) = buffer.as_chunks::<BLOCK>();
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            if !is_zero(&run[0]) {
                self.checksum.update(self.flushed / BLOCK_U64, run);
                self.write_at(self.flushed, run.as_flattened())?;
            }
            self.flushed += run.as_flattened().len() as u64;
        }
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.output.seek(SeekFrom::Start(offset))?;
        self.output.write_all(bytes)?;
        self.written_to = self.written_to.max(offset + bytes.len() as u64);
        Ok(())
    }
}

/// One successful read, interruptions by signals aside.
fn read_some(input: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn what_is_written_arrives_at_its_offset_across_the_buffer() {
        let data: Vec<u8> = (0..BUFFER * 2 + 5000).map(|n| (n % 251) as u8).collect();
        let mut writer = BlockWriter::new(Cursor::new(Vec::new()), 1);
        writer.write(&data[..3]).unwrap();
        assert_eq!(
            writer.copy_from(&mut &data[3..], u64::MAX).unwrap(),
            data.len() as u64 - 3
        );
        let (image, sum) = writer.finish(&[b'h'; BLOCK]).unwrap();
        let image = image.into_inner();
        assert_eq!(&image[..4], b"hhhh");
        let length = image.len() as u64;
        let whole = crate::checksum(&mut Cursor::new(&image), [Ok(0..length)]).unwrap();
        let pieces = [Ok(0..10), Ok(10..5000), Ok(5001..length)];
        let pieces = crate::checksum(&mut Cursor::new(&image), pieces).unwrap();
        assert_eq!((whole, pieces), (sum, sum));
        assert_eq!(&image[BLOCK..BLOCK + data.len()], &data[..]);
        assert_eq!(image.len(), BLOCK + data.len().next_multiple_of(BLOCK));
    }

    #[test]
    fn copying_stops_at_the_limit() {
        let mut writer = BlockWriter::new(Cursor::new(Vec::new()), 0);
        assert_eq!(writer.copy_from(&mut io::repeat(1), 5000).unwrap(), 5000);
        assert_eq!(writer.align().unwrap(), 2);
    }

    #[test]
    fn zero_blocks_are_holes_and_the_length_is_kept() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = BlockWriter::new(file, 1);
        writer.copy_from(&mut io::repeat(0), 64 << 20).unwrap();
        let (mut file, sum) = writer.finish(&[b'h'; BLOCK]).unwrap();
        assert_eq!(crate::checksum(&mut file, [Ok(0..BLOCK_U64)]).unwrap(), sum);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), (64 << 20) + BLOCK_U64);
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < 1 << 20);
    }

    #[test]
    fn errors_of_source_and_output_are_told_apart() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut writer = BlockWriter::new(Cursor::new(Vec::new()), 0);
        assert!(matches!(
            writer.copy_from(&mut Broken, 10),
            Err(CopyError::Input(_))
        ));
        let mut room = [0u8; 16];
        let mut full = BlockWriter::new(Cursor::new(room.as_mut_slice()), 0);
        assert!(matches!(
            full.copy_from(&mut io::repeat(7), 1 << 20),
            Err(CopyError::Output(_))
        ));
    }
}
