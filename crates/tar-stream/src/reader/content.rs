//! The bytes of the current entry.

use std::io::{self, Read};

use super::Reader;
use crate::{Entry, Segment};

impl<R: Read> Reader<R> {
    /// The content of `entry`, which must be the one that was returned last.
    pub fn content<'a>(&'a mut self, entry: &'a Entry) -> Content<'a, R> {
        let whole = Segment {
            offset: 0,
            length: entry.size,
        };
        let segments = match &entry.sparse {
            Some(map) => map.segments().to_vec(),
            None => vec![whole],
        };
        Content {
            archive: self,
            segments: segments.into_iter(),
            current: None,
            offset: 0,
            size: entry.size,
        }
    }
}

/// The stored bytes of the current entry.
pub(super) struct Data<'a, R> {
    pub(super) archive: &'a mut Reader<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into
            .len()
            .min(usize::try_from(self.archive.data_left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        let count = self.archive.input.read(&mut into[..length])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends inside the entry",
            ));
        }
        self.archive.position += count as u64;
        self.archive.data_left -= count as u64;
        Ok(count)
    }
}

/// The content of a regular file, its holes as zeros.
pub struct Content<'a, R> {
    archive: &'a mut Reader<R>,
    segments: std::vec::IntoIter<Segment>,
    current: Option<Segment>,
    offset: u64,
    size: u64,
}

impl<R: Read> Content<'_, R> {
    /// The next bytes that are data, with their offset in the file, read into `buffer`; `None` behind the last. Holes
    /// are passed over.
    pub fn next_data<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<(u64, &'b [u8])>> {
        self.find_segment();
        let Some(segment) = self.current else {
            return Ok(None);
        };
        self.offset = self.offset.max(segment.offset);
        let offset = self.offset;
        let count = self.read(buffer)?;
        Ok(Some((offset, &buffer[..count])))
    }

    /// Makes the segment current that the offset is in or before.
    fn find_segment(&mut self) {
        while self
            .current
            .is_none_or(|segment| segment.offset + segment.length <= self.offset)
        {
            self.current = self.segments.next();
            if self.current.is_none() {
                break;
            }
        }
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.find_segment();
        let (end, is_data) = match self.current {
            Some(segment) if segment.offset <= self.offset => (segment.offset + segment.length, true),
            Some(segment) => (segment.offset, false),
            None => (self.size, false),
        };
        let length = into
            .len()
            .min(usize::try_from(end - self.offset).unwrap_or(usize::MAX));
        let into = &mut into[..length];
        let count = match is_data {
            true => Data {
                archive: self.archive,
            }
            .read(into)?,
            false => {
                into.fill(0);
                length
            }
        };
        self.offset += count as u64;
        Ok(count)
    }
}
