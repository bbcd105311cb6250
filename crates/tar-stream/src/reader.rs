//! Reading a tar archive (ustar, pax and GNU) as a stream of entries.
//!
//! The `tar` crate knows the fixed header. What stands between headers is read here: its own iterator keeps
//! long names and extended headers in memory whatever their size, ends a pax value at its first newline
//! (file capabilities have some) and does not know pax sparse files. Where archives are ambiguous this does
//! what Go's `archive/tar` does, because container images are written and checked with it.

mod content;
mod error;
mod fields;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use tar::{EntryType, Header};

pub use self::content::Content;
pub use self::error::ArchiveError;
use crate::Entry;
use crate::pax::PaxRecords;

const BLOCK: u64 = 512;
/// The longest extended header or long name, in bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// Extensions that stand before an entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: PaxRecords,
}

/// An archive that is read from `R`, which should be buffered.
pub struct Reader<R> {
    input: R,
    position: u64,
    /// Where the last header began.
    header_position: u64,
    /// Bytes of the current entry that were not read, and what fills its last block.
    data_left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// Reads nothing yet.
    pub fn new(input: R) -> Self {
        Self {
            input,
            position: 0,
            header_position: 0,
            data_left: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the end mark or at the end of the input.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not lend the content"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let stored = header.entry_size().map_err(|source| self.header_error(source))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.read_extension(stored)?;
                    extensions.pax = PaxRecords::parse(&records)
                        .ok_or_else(|| self.header_error(io::Error::other("malformed pax records")))?;
                }
                EntryType::GNULongName => extensions.path = Some(cut_at_nul(self.read_extension(stored)?)),
                EntryType::GNULongLink => extensions.link = Some(cut_at_nul(self.read_extension(stored)?)),
                // Global records are ignored, as by every container runtime.
                EntryType::XGlobalHeader => self.set_data(stored),
                _ => return self.read_entry(&header, stored, &extensions).map(Some),
            }
        }
    }

    /// A header block; `None` at the end.
    fn read_header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        self.header_position = self.position;
        if !self.read_block(header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let others = bytes[..148].iter().chain(&bytes[156..]);
        let sum = others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        match header.cksum() {
            Ok(stored) if stored == sum => {
                fill_blank_numbers(&mut header);
                Ok(Some(header))
            }
            Ok(_) => Err(self.header_error(io::Error::other("wrong checksum"))),
            Err(error) => Err(self.header_error(error)),
        }
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENSION {
            let what = format!("an extended header of {size} bytes; {MAX_EXTENSION} are possible");
            return Err(self.header_error(io::Error::other(what)));
        }
        let mut bytes = vec![0; size as usize];
        self.set_data(size);
        self.read_exact(&mut bytes)?;
        self.data_left = 0;
        Ok(bytes)
    }

    fn set_data(&mut self, size: u64) {
        self.data_left = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    fn skip_data(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; 8192];
        let mut parts = [
            std::mem::take(&mut self.data_left),
            std::mem::take(&mut self.padding),
        ];
        for left in &mut parts {
            while *left > 0 {
                let length = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.read_exact(&mut buffer[..length])?;
                *left -= length as u64;
            }
        }
        Ok(())
    }

    /// Fills `into`; false when the input ends before its first byte.
    fn read_block(&mut self, into: &mut [u8]) -> Result<bool, ArchiveError> {
        let position = self.position;
        let first = loop {
            match self.input.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => break result.map_err(|source| ArchiveError::Read { position, source })?,
            }
        };
        self.position += first as u64;
        if first > 0 {
            self.read_exact(&mut into[first..])?;
        }
        Ok(first > 0)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Result<(), ArchiveError> {
        let position = self.position;
        self.input
            .read_exact(into)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    let source = io::Error::new(source.kind(), "it ends in the middle of an entry");
                    ArchiveError::Read { position, source }
                }
                _ => ArchiveError::Read { position, source },
            })?;
        self.position += into.len() as u64;
        Ok(())
    }

    fn header_error(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Header {
            position: self.header_position,
            source,
        }
    }
}

/// A number that is left blank is zero, as GNU tar and Go's reader have it.
fn fill_blank_numbers(header: &mut Header) {
    let header = header.as_old_mut();
    let fields: [&mut [u8]; 5] = [
        &mut header.mode,
        &mut header.uid,
        &mut header.gid,
        &mut header.size,
        &mut header.mtime,
    ];
    for field in fields {
        if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
            field[0] = b'0';
        }
    }
}

fn cut_at_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}
