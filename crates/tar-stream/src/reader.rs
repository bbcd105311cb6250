//! Reading a tar archive (ustar, pax and GNU) as a stream of entries.
//!
//! The `tar` crate knows the fixed header. What stands between headers is read here: its own iterator keeps
//! long names and extended headers in memory whatever their size, ends a pax value at its first newline
//! (file capabilities have some) and does not know pax sparse files. Where archives are ambiguous this does
//! what Go's `archive/tar` does, because container images are written and checked with it.

use std::io::{self, Read};

use crate::pax::{PaxRecords, parse_number, parse_time};
use crate::sparse::{self, PaxSparse, Segment, SparseMap};
use crate::{Device, Entry, EntryKind, Timestamp, Xattr};
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
            position: self.position.saturating_sub(BLOCK),
            source,
        }
    }
}

/// The stored bytes of the current entry.
struct Data<'a, R> {
    archive: &'a mut Reader<R>,
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
    let named = |(key, value): (&[u8], &[u8])| {
        Some(Xattr {
            name: key.strip_prefix(b"SCHILY.xattr.")?.to_vec(),
            value: value.to_vec(),
        })
    };
    pax.iter().filter_map(named).collect()
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::Writer;

    /// An archive with every kind of header that has a parser of its own.
    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        let mut sparse = Entry::new("s", EntryKind::Regular);
        sparse.size = 1 << 20;
        let segments = vec![Segment {
            offset: 512,
            length: 5,
        }];
        assert!(sparse.set_segments(segments));
        writer.begin(&sparse).unwrap();
        writer.write(b"hello").unwrap();
        let mut long = Entry::new("l".repeat(300), EntryKind::Symlink);
        long.link = vec![b'x'; 200];
        writer.begin(&long).unwrap();
        let mut archive = writer.finish().unwrap();
        let mut gnu = Header::new_gnu();
        gnu.set_entry_type(EntryType::GNULongName);
        gnu.set_size(5);
        gnu.set_cksum();
        let mut block = [0; 512];
        block[..4].copy_from_slice(b"name");
        archive.splice(0..0, [gnu.as_bytes().as_slice(), &block].concat());
        archive
    }

    fn repair_checksums(archive: &mut [u8]) {
        for block in archive.as_chunks_mut::<512>().0 {
            if block[257..262] == *b"ustar" {
                let mut header = Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
    }

    fn read_all(archive: &[u8]) -> Result<(), ArchiveError> {
        let mut reader = Reader::new(archive);
        let mut buffer = [0; 4096];
        while let Some(entry) = reader.next()? {
            let mut content = reader.content(&entry);
            while matches!(content.next_data(&mut buffer), Ok(Some((_, bytes))) if !bytes.is_empty()) {}
        }
        Ok(())
    }

    #[test]
    fn numbers_left_blank_are_zero() {
        for blank in [0, b' '] {
            let mut header = Header::new_ustar();
            header.set_path("blank").unwrap();
            header.set_entry_type(EntryType::Regular);
            let old = header.as_old_mut();
            (old.mode, old.uid, old.gid) = ([blank; 8], [blank; 8], [blank; 8]);
            (old.size, old.mtime) = ([blank; 12], [blank; 12]);
            header.set_cksum();
            let entry = Reader::new(header.as_bytes().as_slice()).next().unwrap().unwrap();
            assert_eq!((entry.mode, entry.uid, entry.gid, entry.size), (0, 0, 0, 0));
            assert_eq!(entry.mtime.seconds, 0);
        }
    }

    #[test]
    fn the_undamaged_archive_reads() {
        read_all(&archive()).unwrap();
    }

    proptest! {
        #[test]
        fn a_damaged_archive_is_an_error_and_no_panic(
            damage in vec((any::<Index>(), any::<u8>()), 0..20), cut in any::<Index>(),
        ) {
            let mut archive = archive();
            for (at, value) in damage {
                let at = at.index(archive.len());
                archive[at] = value;
            }
            repair_checksums(&mut archive);
            let _ = read_all(&archive);
            let _ = read_all(&archive[..cut.index(archive.len())]);
        }
    }

    #[test]
    fn an_extended_header_over_the_limit_is_refused_before_memory_is_taken() {
        for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(1 << 40);
            header.set_cksum();
            let error = Reader::new(header.as_bytes().as_slice()).next().unwrap_err();
            assert!(error.to_string().contains("1048576 are possible"), "{error}");
        }
    }
}
