//! Reading a tar archive (ustar, pax and GNU) as a stream of entries.
//!
//! The `tar` crate knows the fixed header. What stands between headers is read here: its own iterator keeps
//! long names and extended headers in memory whatever their size, ends a pax value at its first newline
//! (file capabilities have some) and does not know pax sparse files. Where archives are ambiguous this does
//! what Go's `archive/tar` does, because container images are written and checked with it.

mod pax;
mod sparse;

use erofs::{Device, Timestamp, Xattr};
use pax::{PaxRecords, parse_number, parse_time};
use sparse::{PaxSparse, Segment, SparseMap};
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

const BLOCK: u64 = 512;
/// The longest extended header or long name, in bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// Why an archive cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive could not be read or decompressed.
    #[error("cannot read the archive at byte {position}: {source}")]
    Read {
        /// Bytes of the uncompressed archive before the failure.
        position: u64,
        /// What the source said.
        source: io::Error,
    },
    /// There is no tar header where one belongs.
    #[error("no tar header at byte {position}: {source}")]
    Header {
        /// Where in the uncompressed archive.
        position: u64,
        /// What is wrong.
        source: io::Error,
    },
    /// An entry contradicts itself.
    #[error("entry `{path}` is malformed: {what}")]
    Entry {
        /// The entry, unprintable bytes escaped.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Regular,
    HardLink,
    Symlink,
    CharDevice(Device),
    BlockDevice(Device),
    Directory,
    Fifo,
}

/// One entry, its extensions applied.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// The target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<Xattr>,
    /// The size of a regular file, holes included.
    pub(crate) size: u64,
    sparse: Option<SparseMap>,
}

/// Extensions that stand before an entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: PaxRecords,
}

/// An archive that is read from `R`, which should be buffered.
pub(crate) struct Archive<R> {
    input: R,
    position: u64,
    /// Where the last header began.
    header_position: u64,
    /// Bytes of the current entry that were not read, and what fills its last block.
    data_left: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            position: 0,
            header_position: 0,
            data_left: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the end mark or at the end of the input.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
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

    /// The content of `entry`, which must be the one that was returned last.
    pub(crate) fn content<'a>(&'a mut self, entry: &'a Entry) -> Content<'a, R> {
        let whole = [Segment {
            offset: 0,
            length: entry.size,
        }];
        let segments = entry
            .sparse
            .as_ref()
            .map_or(whole.to_vec(), |map| map.segments().to_vec());
        Content {
            archive: self,
            segments: segments.into_iter(),
            current: None,
            offset: 0,
            size: entry.size,
        }
    }

    fn read_entry(&mut self, header: &Header, stored: u64, ext: &Extensions) -> Result<Entry, ArchiveError> {
        let path = ext.path.as_deref().or(ext.pax.get("path")).map(<[u8]>::to_vec);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = ext.pax.get("GNU.sparse.name").map_or(path, <[u8]>::to_vec);
        let malformed = |what: String| ArchiveError::Entry {
            path: path.escape_ascii().to_string(),
            what,
        };
        let invalid = |error: io::Error| malformed(error.to_string());

        let link = ext
            .link
            .as_deref()
            .or(ext.pax.get("linkpath"))
            .map(<[u8]>::to_vec);
        let link = link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let kind = entry_kind(header, &path).map_err(malformed)?;
        let number = |key: &str| match ext.pax.get(key).map(|text| parse_number(text).ok_or(key)) {
            Some(Err(key)) => Err(malformed(format!("its pax record `{key}` is not a number"))),
            Some(Ok(value)) => Ok(Some(value)),
            None => Ok(None),
        };
        let owner = |pax: Option<u64>, field: io::Result<u64>| match pax.map_or(field, Ok).map(u32::try_from)
        {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(_)) => Err(malformed("its owner is beyond 32 bits".into())),
            Err(error) => Err(invalid(error)),
        };
        let mtime = match ext.pax.get("mtime") {
            Some(text) => {
                parse_time(text).ok_or_else(|| malformed("its pax record `mtime` is no time".into()))?
            }
            None => {
                let seconds = header.mtime().map_err(invalid)?.cast_signed();
                Timestamp {
                    seconds,
                    nanoseconds: 0,
                }
            }
        };
        let mut entry = Entry {
            kind,
            link: link.unwrap_or_default(),
            mode: (header.mode().map_err(invalid)? & 0o7777) as u16,
            uid: owner(number("uid")?, header.uid())?,
            gid: owner(number("gid")?, header.gid())?,
            mtime,
            xattrs: xattrs(&ext.pax),
            size: 0,
            sparse: None,
            path: path.clone(),
        };
        if kind == EntryKind::Regular {
            let stored = number("size")?.unwrap_or(stored);
            let real = number("GNU.sparse.realsize")?.or(number("GNU.sparse.size")?);
            self.set_data(stored);
            entry.size = stored;
            self.read_sparse(header, &ext.pax, real, &mut entry)?;
        }
        Ok(entry)
    }

    /// Gives `entry` its sparse map and its real size, if it has one.
    fn read_sparse(
        &mut self,
        header: &Header,
        pax: &PaxRecords,
        real_size: Option<u64>,
        entry: &mut Entry,
    ) -> Result<(), ArchiveError> {
        let path = entry.path.escape_ascii().to_string();
        let malformed = |what: &str| ArchiveError::Entry {
            path: path.clone(),
            what: what.into(),
        };
        let (segments, size) = if header.entry_type() == EntryType::GNUSparse {
            let size = header.size().map_err(|error| malformed(&error.to_string()))?;
            (self.read_gnu_map(header, &path)?, size)
        } else {
            let segments = match PaxSparse::of(pax).map_err(|()| malformed("its sparse map"))? {
                None => return Ok(()),
                Some(PaxSparse::Segments(segments)) => segments,
                Some(PaxSparse::InData) => {
                    let map = sparse::read_leading_map(&mut Data { archive: self });
                    map.map_err(|error| malformed(&error.to_string()))?.0
                }
            };
            (
                segments,
                real_size.ok_or_else(|| malformed("a sparse file without its size"))?,
            )
        };
        let map = SparseMap::new(segments, size, self.data_left);
        entry.sparse = Some(map.ok_or_else(|| malformed("its sparse map does not fit its size"))?);
        entry.size = size;
        Ok(())
    }

    /// The map of the old GNU form: four segments in the header, 21 in each block that may follow it.
    fn read_gnu_map(&mut self, header: &Header, path: &str) -> Result<Vec<Segment>, ArchiveError> {
        let malformed = |what: String| ArchiveError::Entry {
            path: path.into(),
            what,
        };
        let gnu = header
            .as_gnu()
            .ok_or_else(|| malformed("a sparse file without a GNU header".into()))?;
        let mut segments = Vec::new();
        let mut add = |records: &[GnuSparseHeader]| {
            for record in records.iter().filter(|record| !record.is_empty()) {
                let (offset, length) = (record.offset().ok()?, record.length().ok()?);
                segments.push(Segment { offset, length });
            }
            (segments.len() <= sparse::MAX_SEGMENTS).then_some(())
        };
        add(&gnu.sparse).ok_or_else(|| malformed("its sparse map".into()))?;
        let mut block = GnuExtSparseHeader::new();
        block.set_is_extended(gnu.is_extended());
        while block.is_extended() {
            self.read_exact(block.as_mut_bytes())?;
            add(block.sparse()).ok_or_else(|| malformed("its sparse map".into()))?;
        }
        Ok(segments)
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
            Ok(stored) if stored == sum => Ok(Some(header)),
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
            position: self.position.saturating_sub(BLOCK),
            source,
        }
    }
}

/// The stored bytes of the current entry.
struct Data<'a, R> {
    archive: &'a mut Archive<R>,
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
pub(crate) struct Content<'a, R> {
    archive: &'a mut Archive<R>,
    segments: std::vec::IntoIter<Segment>,
    current: Option<Segment>,
    offset: u64,
    size: u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self
            .current
            .is_none_or(|segment| segment.offset + segment.length <= self.offset)
        {
            match self.segments.next() {
                Some(segment) => self.current = Some(segment),
                None => {
                    self.current = None;
                    break;
                }
            }
        }
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

fn entry_kind(header: &Header, path: &[u8]) -> Result<EntryKind, String> {
    let device = || match (header.device_major(), header.device_minor()) {
        (Ok(Some(major)), Ok(Some(minor))) => Ok(Device { major, minor }),
        _ => Err("a device without a readable number".to_owned()),
    };
    Ok(match header.entry_type() {
        // Before POSIX a directory was a file whose name ends in a slash.
        EntryType::Regular if header.as_bytes()[156] == 0 && path.ends_with(b"/") => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::Regular,
        EntryType::Link => EntryKind::HardLink,
        EntryType::Symlink => EntryKind::Symlink,
        EntryType::Char => EntryKind::CharDevice(device()?),
        EntryType::Block => EntryKind::BlockDevice(device()?),
        EntryType::Directory => EntryKind::Directory,
        EntryType::Fifo => EntryKind::Fifo,
        other => {
            return Err(format!(
                "the entry type `{}` is unknown",
                other.as_byte().escape_ascii()
            ));
        }
    })
}

fn xattrs(pax: &PaxRecords) -> Vec<Xattr> {
    let named = |(key, value): (&[u8], &[u8])| Some(Xattr::new(key.strip_prefix(b"SCHILY.xattr.")?, value));
    // An empty value takes the record back: so Go reads it, and with it every container runtime.
    pax.iter()
        .filter_map(named)
        .filter(|xattr| !xattr.value.is_empty())
        .collect()
}

fn cut_at_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}
