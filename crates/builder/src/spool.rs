//! Contents of files one after the other in one temporary file that has no name.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use image_store::{Digest, Hasher};

/// What is written at once, in bytes.
const BUFFER: usize = 128 << 10;

/// A spool that is filled.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    file: BufWriter<File>,
    length: u64,
    buffer: Vec<u8>,
}

/// Where a content lies in a spool, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) digest: Digest,
}

impl SpoolWriter {
    /// A file without a name in `folder`: the kernel removes it when nobody has it open any more, whatever ends the process.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, tempfile::tempfile_in(folder)?),
            length: 0,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Appends all of `content` but no more than `limit` bytes; `None` if there is more.
    ///
    /// # Errors
    /// Which of the two failed.
    pub(crate) fn append(
        &mut self,
        content: &mut dyn Read,
        limit: u64,
    ) -> Result<Option<Extent>, SpoolError> {
        let offset = self.length;
        let mut hasher = Hasher::default();
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(SpoolError::Read(error)),
            };
            self.length += count as u64;
            if self.length - offset > limit {
                return Ok(None);
            }
            hasher.update(&self.buffer[..count]);
            self.file
                .write_all(&self.buffer[..count])
                .map_err(SpoolError::Write)?;
        }
        Ok(Some(Extent {
            offset,
            length: self.length - offset,
            digest: hasher.finish(),
        }))
    }

    /// No more is written.
    pub(crate) fn finish(self) -> io::Result<Spool> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Spool(Arc::new(file)))
    }
}

/// Which side of copying into a spool failed.
#[derive(Debug)]
pub(crate) enum SpoolError {
    Read(io::Error),
    Write(io::Error),
}

/// A spool that is full.
#[derive(Debug, Clone)]
pub(crate) struct Spool(Arc<File>);

impl Spool {
    /// `length` bytes from `offset` on.
    pub(crate) fn read(&self, offset: u64, length: u64) -> FileRange {
        FileRange::new(self.0.clone(), offset, length)
    }
}

/// A part of a file as a file of its own.
#[derive(Debug)]
pub(crate) struct FileRange {
    file: Arc<File>,
    start: u64,
    length: u64,
    position: u64,
}

impl FileRange {
    pub(crate) fn new(file: Arc<File>, start: u64, length: u64) -> Self {
        Self {
            file,
            start,
            length,
            position: 0,
        }
    }
}

impl Read for FileRange {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let length = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self
            .file
            .read_at(&mut into[..length], self.start + self.position)?;
        if count == 0 && length > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file has become shorter",
            ));
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for FileRange {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_back_and_a_limit_holds() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = SpoolWriter::new(folder.path()).unwrap();
        let a = spool.append(&mut &b"first"[..], 5).unwrap().unwrap();
        let b = spool.append(&mut &b""[..], 0).unwrap().unwrap();
        let c = spool.append(&mut &b"third"[..], 9).unwrap().unwrap();
        assert_eq!(spool.append(&mut &b"too long"[..], 7).unwrap(), None);
        assert_eq!((b.offset, b.length), (5, 0));
        assert_eq!(a.digest, Digest::of(b"first"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let spool = spool.finish().unwrap();
        let mut range = spool.read(c.offset, c.length);
        let mut text = String::new();
        range.read_to_string(&mut text).unwrap();
        assert_eq!(text, "third");
        range.seek(SeekFrom::End(-2)).unwrap();
        text.clear();
        range.read_to_string(&mut text).unwrap();
        assert_eq!(text, "rd");
        assert!(range.seek(SeekFrom::Current(-9)).is_err());
    }
}
