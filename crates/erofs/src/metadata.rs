//! What a file is, apart from its name and its content.

use crate::xattr::Xattr;

/// The kinds of file that EROFS can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

impl FileType {
    /// The type bits of `st_mode` (`S_IFMT`).
    pub fn mode_bits(self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The file type that the `S_IFMT` bits of `mode` stand for.
    pub(crate) fn from_mode(mode: u16) -> Option<Self> {
        ALL.into_iter().find(|kind| kind.mode_bits() == mode & 0o170_000)
    }

    /// The value in a directory entry (`FT_*` in the kernel's include/linux/fs_types.h).
    pub(crate) fn dirent_code(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    /// The file type that a directory entry's type byte stands for.
    pub(crate) fn from_dirent_code(code: u8) -> Option<Self> {
        ALL.into_iter().find(|kind| kind.dirent_code() == code)
    }
}

const ALL: [FileType; 7] = [
    FileType::Regular,
    FileType::Directory,
    FileType::CharDevice,
    FileType::BlockDevice,
    FileType::Fifo,
    FileType::Socket,
    FileType::Symlink,
];

/// A moment: seconds and nanoseconds since 1970-01-01 00:00:00 UTC. `nanoseconds` is below 10⁹ and counts
/// forward also when `seconds` is negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// The rest, 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// Owner, permissions, time and extended attributes of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission, set-id and sticky bits (`0o7777`); other bits are ignored.
    pub mode: u16,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Modification time. EROFS keeps one time a file.
    pub mtime: Timestamp,
    /// Extended attributes; of two with one name the last counts.
    pub xattrs: Vec<Xattr>,
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The driver's number, at most 4 095.
    pub major: u32,
    /// The device's number, at most 1 048 575.
    pub minor: u32,
}

impl Device {
    const MAJOR_BITS: u32 = 12;
    const MINOR_BITS: u32 = 20;

    /// The 32-bit form on disk (`new_encode_dev` in the kernel's include/linux/kdev_t.h); `None` when a
    /// number does not fit.
    pub(crate) fn encode(self) -> Option<u32> {
        if self.major >> Self::MAJOR_BITS != 0 || self.minor >> Self::MINOR_BITS != 0 {
            return None;
        }
        Some((self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12))
    }

    /// The opposite of [`Device::encode`].
    pub(crate) fn decode(rdev: u32) -> Self {
        Self {
            major: (rdev >> 8) & 0xfff,
            minor: (rdev & 0xff) | ((rdev >> 12) & 0xfff00),
        }
    }
}

/// A file that is neither regular, nor a directory, nor a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
}

impl Special {
    /// The kind of file this is.
    pub fn file_type(self) -> FileType {
        match self {
            Self::CharDevice(_) => FileType::CharDevice,
            Self::BlockDevice(_) => FileType::BlockDevice,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_disk_form() {
        for device in [
            Device { major: 0, minor: 0 },
            Device { major: 1, minor: 3 },
            Device {
                major: 259,
                minor: 256,
            },
            Device {
                major: 0xfff,
                minor: 0xf_ffff,
            },
        ] {
            assert_eq!(Device::decode(device.encode().unwrap()), device);
        }
        assert_eq!(Device { major: 1, minor: 5 }.encode(), Some(0x105));
    }

    #[test]
    fn a_device_number_that_does_not_fit_is_refused() {
        assert_eq!(
            Device {
                major: 0x1000,
                minor: 0
            }
            .encode(),
            None
        );
        assert_eq!(
            Device {
                major: 0,
                minor: 0x10_0000
            }
            .encode(),
            None
        );
    }

    #[test]
    fn file_types_survive_both_disk_forms() {
        for kind in ALL {
            assert_eq!(FileType::from_mode(kind.mode_bits() | 0o4755), Some(kind));
            assert_eq!(FileType::from_dirent_code(kind.dirent_code()), Some(kind));
        }
        assert_eq!(FileType::from_mode(0o755), None);
        assert_eq!(FileType::from_dirent_code(0), None);
    }
}
