//! What an archive says of one file.

use crate::Segment;
use crate::sparse::SparseMap;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file, whose content follows.
    Regular,
    /// Another name of the file at [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
    Symlink,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The driver's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
}

/// A moment: seconds and nanoseconds since 1970-01-01 00:00:00 UTC. `nanoseconds` is below 10⁹ and counts forward also
/// when `seconds` is negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// The rest, 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// An extended attribute, xattr(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Its name with the namespace, such as `security.capability`.
    pub name: Vec<u8>,
    /// Any bytes.
    pub value: Vec<u8>,
}

/// One entry, its extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the archive has it; any bytes but zero.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: EntryKind,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// The size of a regular file in bytes, holes included.
    pub size: u64,
    pub(crate) sparse: Option<SparseMap>,
}

impl Entry {
    /// An empty entry: mode, owner and time are all zero.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        Self {
            path: path.into(),
            kind,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
            size: 0,
            sparse: None,
        }
    }

    /// Makes it a regular file with only these runs of data, in order; all else is zero. Whether they are within
    /// [`Entry::size`], do not overlap, and are not too many; otherwise nothing changes.
    pub fn set_segments(&mut self, segments: Vec<Segment>) -> bool {
        let Some(stored) = segments
            .iter()
            .try_fold(0u64, |sum, segment| sum.checked_add(segment.length))
        else {
            return false;
        };
        match SparseMap::new(segments, self.size, stored) {
            Some(map) => {
                self.sparse = Some(map);
                true
            }
            None => false,
        }
    }
}
