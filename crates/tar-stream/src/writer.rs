//! Writing an archive.

use std::io::{self, Write};

use tar::{EntryType, Header};

use crate::sparse::Segment;
use crate::{Device, Entry, EntryKind, Timestamp};

const BLOCK: u64 = 512;
/// The largest number in an octal field of 12 and of 8 bytes.
const MAX_OCTAL_12: u64 = 0o77_777_777_777;
const MAX_OCTAL_8: u64 = 0o7_777_777;
/// Bytes of a name or link target in the header.
const MAX_NAME: usize = 100;

/// Why an archive cannot be written any further.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Where it goes does not take it.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
    /// More content came than the entry has room for.
    #[error("the content of an entry is longer than its size by {0} bytes")]
    TooLong(u64),
    /// The entry began and its content did not come.
    #[error("the content of an entry is shorter than its size by {0} bytes")]
    TooShort(u64),
}

/// An archive that is written to `W`, which should be buffered.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    /// Bytes of content that the current entry still needs, and what fills its last block.
    left: u64,
    padding: u64,
}

impl<W: Write> Writer<W> {
    /// Writes nothing yet.
    pub fn new(to: W) -> Self {
        Self {
            to,
            left: 0,
            padding: 0,
        }
    }

    /// Begins an entry. The content of a regular file follows with [`Writer::write`]: its [`Entry::size`] bytes, or
    /// those of its segments one after the other where it has any.
    pub fn begin(&mut self, entry: &Entry) -> Result<(), WriteError> {
        self.end_entry()?;
        let segments = entry.sparse.as_ref().map(|map| map.segments());
        let map = segments.map(leading_map).unwrap_or_default();
        let stored = match (entry.kind, segments) {
            (EntryKind::Regular, None) => entry.size,
            (EntryKind::Regular, Some(segments)) => {
                segments.iter().map(|segment| segment.length).sum::<u64>()
            }
            _ => 0,
        };
        let in_archive = map.len() as u64 + stored;
        let records = records(entry, in_archive);
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            set_name(&mut header, b"PaxHeaders/entry");
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            header.set_size(records.len() as u64);
            header.set_cksum();
            self.to.write_all(header.as_bytes())?;
            self.to.write_all(&records)?;
            self.pad(padding(records.len() as u64))?;
        }
        self.to.write_all(header(entry, in_archive).as_bytes())?;
        self.to.write_all(&map)?;
        self.left = stored;
        self.padding = padding(stored);
        Ok(())
    }

    /// Writes a part of the content of the current entry.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let length = bytes.len() as u64;
        if length > self.left {
            return Err(WriteError::TooLong(length - self.left));
        }
        self.to.write_all(bytes)?;
        self.left -= length;
        Ok(())
    }

    /// Bytes of content that the current entry still needs.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Writes the end mark and flushes.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.end_entry()?;
        self.to.write_all(&[0; 2 * BLOCK as usize])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn end_entry(&mut self) -> Result<(), WriteError> {
        if self.left > 0 {
            return Err(WriteError::TooShort(self.left));
        }
        let padding = std::mem::take(&mut self.padding);
        Ok(self.pad(padding)?)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        self.to.write_all(&[0; BLOCK as usize][..length as usize])
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn header(entry: &Entry, in_archive: u64) -> Header {
    let mut header = Header::new_ustar();
    set_name(&mut header, &entry.path);
    let link = &entry.link[..entry.link.len().min(MAX_NAME)];
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_mode(u32::from(entry.mode & 0o7777));
    header.set_uid(fitting(entry.uid.into(), MAX_OCTAL_8));
    header.set_gid(fitting(entry.gid.into(), MAX_OCTAL_8));
    header.set_size(fitting(in_archive, MAX_OCTAL_12));
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0);
    header.set_mtime(fitting(seconds, MAX_OCTAL_12));
    header.set_entry_type(match entry.kind {
        EntryKind::Regular => EntryType::Regular,
        EntryKind::HardLink => EntryType::Link,
        EntryKind::Symlink => EntryType::Symlink,
        EntryKind::CharDevice(_) => EntryType::Char,
        EntryKind::BlockDevice(_) => EntryType::Block,
        EntryKind::Directory => EntryType::Directory,
        EntryKind::Fifo => EntryType::Fifo,
    });
    if let EntryKind::CharDevice(Device { major, minor }) | EntryKind::BlockDevice(Device { major, minor }) =
        entry.kind
        && let Some(ustar) = header.as_ustar_mut()
    {
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    header.set_cksum();
    header
}

/// A number that does not fit stands in a pax record.
fn fitting(number: u64, most: u64) -> u64 {
    if number > most { 0 } else { number }
}

/// The name; of one that is too long its beginning, for readers that know no pax.
fn set_name(header: &mut Header, name: &[u8]) {
    let name = &name[..name.len().min(MAX_NAME)];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
}

/// The extended header: what the fixed one has no room for.
fn records(entry: &Entry, in_archive: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &str, value: &[u8]| add_record(&mut records, key.as_bytes(), value);
    let is_odd = |name: &[u8]| name.len() > MAX_NAME || !name.is_ascii();
    if entry.sparse.is_some() {
        add("GNU.sparse.major", b"1");
        add("GNU.sparse.minor", b"0");
        add("GNU.sparse.name", &entry.path);
        add("GNU.sparse.realsize", entry.size.to_string().as_bytes());
    } else if is_odd(&entry.path) {
        add("path", &entry.path);
    }
    if is_odd(&entry.link) {
        add("linkpath", &entry.link);
    }
    for (key, number, most) in [
        ("uid", entry.uid.into(), MAX_OCTAL_8),
        ("gid", entry.gid.into(), MAX_OCTAL_8),
        ("size", in_archive, MAX_OCTAL_12),
    ] {
        if number > most {
            add(key, number.to_string().as_bytes());
        }
    }
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    if nanoseconds > 0 || !u64::try_from(seconds).is_ok_and(|seconds| seconds <= MAX_OCTAL_12) {
        add("mtime", time(entry.mtime).as_bytes());
    }
    for xattr in &entry.xattrs {
        let key = [b"SCHILY.xattr.", xattr.name.as_slice()].concat();
        add_record(&mut records, &key, &xattr.value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn add_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if rest + digits(length) > length {
        length = rest + digits(length);
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Seconds with decimals, as pax has them: the decimals of a negative time count backward.
fn time(time: Timestamp) -> String {
    let Timestamp { seconds, nanoseconds } = time;
    match (seconds, nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (..0, nanoseconds) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
        _ => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// The map that stands before the data of a sparse file: a count, then offsets and lengths, in whole blocks.
fn leading_map(segments: &[Segment]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len());
    for segment in segments {
        map.push_str(&format!("{}\n{}\n", segment.offset, segment.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len() + padding(map.len() as u64) as usize, 0);
    map
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{Reader, Xattr};

    fn read_back(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
        let mut reader = Reader::new(archive);
        let mut found = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            let mut content = Vec::new();
            reader.content(&entry).read_to_end(&mut content).unwrap();
            found.push((entry, content));
        }
        found
    }

    fn written(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in entries {
            writer.begin(entry).unwrap();
            writer.write(content).unwrap();
        }
        writer.finish().unwrap()
    }

    fn file(path: &str, size: u64) -> Entry {
        Entry {
            size,
            ..Entry::new(path, EntryKind::Regular)
        }
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(
            path in vec(1u8.., 1..300), link in vec(1u8.., 0..300), mode in 0u16..0o10000,
            uid: u32, gid: u32, seconds in -1i64 << 40..1i64 << 40, nanoseconds in 0u32..1_000_000_000,
            value in vec(any::<u8>(), 0..2000), content in vec(any::<u8>(), 0..2000),
        ) {
            let symlink = Entry {
                link, mode, uid, gid,
                mtime: Timestamp { seconds, nanoseconds },
                xattrs: vec![Xattr { name: b"user.a".to_vec(), value }],
                ..Entry::new(path.clone(), EntryKind::Symlink)
            };
            let regular = Entry { path, ..file("", content.len() as u64) };
            let archive = written(&[(symlink.clone(), &[]), (regular.clone(), &content)]);
            prop_assert_eq!(archive.len() % 512, 0);
            prop_assert_eq!(read_back(&archive), [(symlink, vec![]), (regular, content)]);
        }
    }

    #[test]
    fn every_kind_reads_back() {
        let device = Device {
            major: 4095,
            minor: 7,
        };
        let kinds = [
            EntryKind::HardLink,
            EntryKind::CharDevice(device),
            EntryKind::BlockDevice(device),
            EntryKind::Directory,
            EntryKind::Fifo,
        ];
        for kind in kinds {
            let entry = Entry::new("a", kind);
            assert_eq!(read_back(&written(&[(entry.clone(), &[])])), [(entry, vec![])]);
        }
    }

    #[test]
    fn a_sparse_file_stores_its_data_only() {
        let mut entry = file("disk", 1 << 30);
        let segments = vec![
            Segment {
                offset: 4096,
                length: 3,
            },
            Segment {
                offset: 1 << 29,
                length: 2,
            },
        ];
        assert!(entry.set_segments(segments));
        let archive = written(&[(entry.clone(), b"abcde")]);
        assert!(archive.len() < 8192);
        let mut reader = Reader::new(archive.as_slice());
        let found = reader.next().unwrap().unwrap();
        assert_eq!(found, entry);
        let mut content = reader.content(&found);
        let mut pieces = Vec::new();
        let mut buffer = [0; 64];
        while let Some((offset, bytes)) = content.next_data(&mut buffer).unwrap() {
            pieces.push((offset, bytes.to_vec()));
        }
        assert_eq!(pieces, [(4096, b"abc".to_vec()), (1 << 29, b"de".to_vec())]);
    }

    #[test]
    fn segments_beyond_the_size_are_refused() {
        let beyond = Segment { offset: 9, length: 2 };
        assert!(!file("a", 10).set_segments(vec![beyond]));
    }

    #[test]
    fn content_of_another_length_is_an_error() {
        let mut writer = Writer::new(Vec::new());
        writer.begin(&file("a", 2)).unwrap();
        assert!(matches!(writer.write(b"abc"), Err(WriteError::TooLong(1))));
        writer.write(b"a").unwrap();
        assert!(matches!(
            writer.begin(&file("b", 0)),
            Err(WriteError::TooShort(1))
        ));
    }
}
