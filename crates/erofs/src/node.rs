//! What is known of a file before its inode is written, and of its names: records in a [`Scratch`].

use crate::format::{DataLayout, SLOT, get16, get32, get64, put16, put32, put64};
use crate::metadata::{Device, FileType, Metadata, Special, Timestamp};
use crate::scratch::{RecordId, Scratch};
use std::io;

/// The root directory, which is the first record.
pub(crate) const ROOT: RecordId = RecordId::FIRST;
/// Bytes of a node's record.
const NODE: usize = 72;
/// Bytes of a link's record without its name.
const LINK: usize = 14;

/// Where a regular file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// In the output already, from this block on.
    Blocks(u32),
    /// In the scratch, to be written with the inode.
    Scratch(RecordId),
}

/// A directory's place and its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) parent: RecordId,
    pub(crate) depth: u16,
    /// Its first link; in no order, until the image is laid out: in the order of the names then, `.` and `..` among
    /// them.
    pub(crate) first: Option<RecordId>,
    /// Bytes of its content, once that is known.
    pub(crate) size: u32,
    /// The first link of the last block of its content, once that is known.
    pub(crate) tail: Option<RecordId>,
}

/// What kind of file a node is, with what only that kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Directory(Directory),
    Regular { size: u64, content: Content },
    Symlink { length: u32, target: RecordId },
    Special(Special),
}

impl Body {
    pub(crate) fn file_type(&self) -> FileType {
        match self {
            Self::Directory(_) => FileType::Directory,
            Self::Regular { .. } => FileType::Regular,
            Self::Symlink { .. } => FileType::Symlink,
            Self::Special(special) => special.file_type(),
        }
    }
}

/// Where an inode goes and how its data is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Bytes from the start of the metadata area, a multiple of [`SLOT`].
    pub(crate) offset: u64,
    pub(crate) layout: DataLayout,
    /// The first block of its data.
    pub(crate) block: u32,
    /// Blocks of content that is still in the scratch and goes before the metadata area.
    pub(crate) scratch_blocks: u32,
}

impl Placement {
    /// Before it is known.
    const NOWHERE: Self = Self {
        offset: 0,
        layout: DataLayout::FlatPlain,
        block: 0,
        scratch_blocks: 0,
    };

    pub(crate) fn nid(&self) -> u64 {
        self.offset / SLOT as u64
    }
}

/// Owner, permissions, time and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Extended ones, in the form in which they follow the inode.
    pub(crate) xattrs: Option<RecordId>,
}

impl Attributes {
    /// Those of `metadata` but the extended ones.
    pub(crate) fn plain(metadata: &Metadata) -> Self {
        Self {
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            xattrs: None,
        }
    }
}

/// One inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    /// Names that lead here; of a directory, once the image is laid out, what `stat` says.
    pub(crate) links: u32,
    /// Whether a name was found that its inode stands with; others do not count then.
    pub(crate) seen: bool,
    pub(crate) body: Body,
    pub(crate) placement: Placement,
}

impl Node {
    /// A node to which no name leads.
    pub(crate) fn new(attributes: Attributes, body: Body) -> Self {
        Self {
            attributes,
            links: 0,
            seen: false,
            body,
            placement: Placement::NOWHERE,
        }
    }

    pub(crate) fn append(&self, scratch: &mut Scratch) -> io::Result<RecordId> {
        scratch.append(&self.encode())
    }

    pub(crate) fn read(scratch: &mut Scratch, id: RecordId) -> io::Result<Self> {
        let mut record = [0; NODE];
        scratch.read(id, 0, &mut record)?;
        Self::decode(&record)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it was changed by somebody"))
    }

    pub(crate) fn write(&self, scratch: &mut Scratch, id: RecordId) -> io::Result<()> {
        scratch.write(id, 0, &self.encode())
    }

    fn encode(&self) -> [u8; NODE] {
        let Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        } = self.attributes;
        let mut record = [0; NODE];
        record[0] = self.body.file_type().dirent_code();
        record[1] = self.placement.layout.code() as u8;
        put16(&mut record, 2, mode);
        put32(&mut record, 4, uid);
        put32(&mut record, 8, gid);
        put32(&mut record, 12, mtime.nanoseconds);
        put64(&mut record, 16, mtime.seconds.cast_unsigned());
        put32(&mut record, 24, self.links);
        put32(&mut record, 28, RecordId::encode(xattrs));
        record[32] = u8::from(self.seen);
        put64(&mut record, 56, self.placement.offset);
        put32(&mut record, 64, self.placement.block);
        put32(&mut record, 68, self.placement.scratch_blocks);
        self.body.encode(&mut record);
        record
    }

    fn decode(record: &[u8; NODE]) -> Option<Self> {
        Some(Self {
            attributes: Attributes {
                mode: get16(record, 2),
                uid: get32(record, 4),
                gid: get32(record, 8),
                mtime: Timestamp {
                    seconds: get64(record, 16).cast_signed(),
                    nanoseconds: get32(record, 12),
                },
                xattrs: RecordId::decode(get32(record, 28)),
            },
            links: get32(record, 24),
            seen: record[32] != 0,
            body: Body::decode(record)?,
            placement: Placement {
                offset: get64(record, 56),
                layout: DataLayout::from_code(u16::from(record[1]))?,
                block: get32(record, 64),
                scratch_blocks: get32(record, 68),
            },
        })
    }
}

/// The bytes 33 to 55 of a node's record.
impl Body {
    fn encode(&self, record: &mut [u8; NODE]) {
        match self {
            Self::Directory(directory) => {
                put16(record, 34, directory.depth);
                put32(record, 36, RecordId::encode(directory.first));
                put32(record, 40, directory.size);
                put32(record, 44, RecordId::encode(directory.tail));
                put32(record, 48, RecordId::encode(Some(directory.parent)));
            }
            Self::Regular { size, content } => {
                put64(record, 40, *size);
                let (in_scratch, number) = match content {
                    Content::Blocks(block) => (0, *block),
                    Content::Scratch(id) => (1, RecordId::encode(Some(*id))),
                };
                record[33] = in_scratch;
                put32(record, 48, number);
            }
            Self::Symlink { length, target } => {
                put32(record, 40, *length);
                put32(record, 48, RecordId::encode(Some(*target)));
            }
            Self::Special(Special::CharDevice(device) | Special::BlockDevice(device)) => {
                put32(record, 40, device.major);
                put32(record, 48, device.minor);
            }
            Self::Special(Special::Fifo | Special::Socket) => {}
        }
    }

    fn decode(record: &[u8; NODE]) -> Option<Self> {
        let number = get32(record, 48);
        let device = Device {
            major: get32(record, 40),
            minor: number,
        };
        Some(match FileType::from_dirent_code(record[0])? {
            FileType::Directory => Self::Directory(Directory {
                parent: RecordId::decode(number).unwrap_or(ROOT),
                depth: get16(record, 34),
                first: RecordId::decode(get32(record, 36)),
                size: get32(record, 40),
                tail: RecordId::decode(get32(record, 44)),
            }),
            FileType::Regular => Self::Regular {
                size: get64(record, 40),
                content: match record[33] {
                    0 => Content::Blocks(number),
                    _ => Content::Scratch(RecordId::decode(number)?),
                },
            },
            FileType::Symlink => Self::Symlink {
                length: get32(record, 40),
                target: RecordId::decode(number)?,
            },
            FileType::CharDevice => Self::Special(Special::CharDevice(device)),
            FileType::BlockDevice => Self::Special(Special::BlockDevice(device)),
            FileType::Fifo => Self::Special(Special::Fifo),
            FileType::Socket => Self::Special(Special::Socket),
        })
    }
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The directory's next.
    pub(crate) next: Option<RecordId>,
    pub(crate) directory: RecordId,
    pub(crate) node: RecordId,
    /// Whether the inode stands with this name: each inode with one of its names.
    pub(crate) first: bool,
    pub(crate) name: Vec<u8>,
}

impl Link {
    /// Names have been checked: they are at most [`crate::MAX_NAME`] bytes long.
    pub(crate) fn append(&self, scratch: &mut Scratch) -> io::Result<RecordId> {
        let mut record = [&self.head(), &*self.name].concat();
        record[13] = self.name.len() as u8;
        scratch.append(&record)
    }

    pub(crate) fn read(scratch: &mut Scratch, id: RecordId) -> io::Result<Self> {
        let mut head = [0; LINK];
        scratch.read(id, 0, &mut head)?;
        let mut name = vec![0; usize::from(head[13])];
        scratch.read(id, LINK, &mut name)?;
        Ok(Self {
            next: RecordId::decode(get32(&head, 0)),
            directory: RecordId::decode(get32(&head, 4)).unwrap_or(ROOT),
            node: RecordId::decode(get32(&head, 8)).unwrap_or(ROOT),
            first: head[12] != 0,
            name,
        })
    }

    /// Writes everything but the name, which does not change.
    pub(crate) fn write(&self, scratch: &mut Scratch, id: RecordId) -> io::Result<()> {
        scratch.write(id, 0, &self.head()[..13])
    }

    fn head(&self) -> [u8; LINK] {
        let mut head = [0; LINK];
        put32(&mut head, 0, RecordId::encode(self.next));
        put32(&mut head, 4, RecordId::encode(Some(self.directory)));
        put32(&mut head, 8, RecordId::encode(Some(self.node)));
        head[12] = u8::from(self.first);
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_links_survive_the_scratch() {
        let mut scratch = Scratch::new(None);
        let first = scratch.append(b"x").unwrap();
        let other = scratch.append_bytes(b"target").unwrap();
        let device = Device {
            major: 4095,
            minor: 1 << 19,
        };
        let bodies = [
            Body::Directory(Directory {
                parent: first,
                depth: 1024,
                first: Some(other),
                size: u32::MAX,
                tail: None,
            }),
            Body::Regular {
                size: u64::MAX,
                content: Content::Blocks(u32::MAX),
            },
            Body::Regular {
                size: 7,
                content: Content::Scratch(other),
            },
            Body::Symlink {
                length: 4095,
                target: other,
            },
            Body::Special(Special::CharDevice(device)),
            Body::Special(Special::BlockDevice(device)),
            Body::Special(Special::Fifo),
            Body::Special(Special::Socket),
        ];
        for body in bodies {
            let attributes = Attributes {
                mode: 0o7777,
                uid: u32::MAX,
                gid: 1,
                mtime: Timestamp {
                    seconds: -1,
                    nanoseconds: 999_999_999,
                },
                xattrs: Some(other),
            };
            let mut node = Node::new(attributes, body);
            let id = node.append(&mut scratch).unwrap();
            assert_eq!(Node::read(&mut scratch, id).unwrap(), node);
            node.placement = Placement {
                offset: 1 << 40,
                layout: DataLayout::FlatInline,
                block: u32::MAX,
                scratch_blocks: 3,
            };
            (node.links, node.seen) = (u32::MAX, true);
            node.write(&mut scratch, id).unwrap();
            assert_eq!(Node::read(&mut scratch, id).unwrap(), node);
        }
        let mut link = Link {
            next: None,
            directory: ROOT,
            node: other,
            first: false,
            name: vec![b'n'; 255],
        };
        let id = link.append(&mut scratch).unwrap();
        assert_eq!(Link::read(&mut scratch, id).unwrap(), link);
        (link.next, link.first) = (Some(other), true);
        link.write(&mut scratch, id).unwrap();
        assert_eq!(Link::read(&mut scratch, id).unwrap(), link);
    }
}
