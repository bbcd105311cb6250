//! What a header and its extensions say of an entry.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::content::Data;
use super::{ArchiveError, Extensions, Reader};
use crate::pax::{PaxRecords, parse_number, parse_time};
use crate::sparse::{self, PaxSparse, Segment, SparseMap};
use crate::{Device, Entry, EntryKind, Timestamp, Xattr};

impl<R: Read> Reader<R> {
    /// The entry that `header` is of. Its content is next.
    pub(super) fn read_entry(
        &mut self,
        header: &Header,
        stored: u64,
        ext: &Extensions,
    ) -> Result<Entry, ArchiveError> {
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
