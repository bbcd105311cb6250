//! EROFS images: written in one pass over a stream of entries, read back for tests and tools.
//!
//! The format is the kernel's (`fs/erofs/erofs_fs.h`, `Documentation/filesystems/erofs.rst`), its
//! uncompressed part: 4 KiB blocks, 64-byte ("extended") inodes with nanosecond times, flat data, inline
//! extended attributes. Linux mounts such an image from a block device since 5.4 and straight from a file
//! since 6.12.
//!
//! What an image looks like, by block address:
//!
//! ```text
//! 0            the superblock (at byte 1024) and nothing else
//! 1 ..         file data, in the order in which it was added
//! ..           directory blocks
//! meta_blkaddr inodes, each followed by its extended attributes and its inline data; the root first
//! ```
//!
//! File data goes to the output as it arrives; the tree itself (names, owners, attributes, small files) goes to a
//! temporary file until [`Writer::finish`], within [`Limits`]: in memory are the part of it that was used last and
//! some twenty bytes for each name.
//!
//! Nothing here knows of tar or of container layers, and nothing is ever looked up in, or created on, the
//! file system of the machine that runs it: paths, symbolic links and devices are only data.

mod block_writer;
mod checksum;
mod dirent;
mod format;
mod index;
mod layout;
mod metadata;
mod node;
mod path;
mod reader;
mod scratch;
mod sort;
mod tree;
mod writer;
mod xattr;

pub use checksum::checksum;
pub use metadata::{Device, FileType, Metadata, Special, Timestamp};
pub use path::{MAX_NAME, MAX_PATH, PathError};
pub use reader::{DirEntry, FileReader, Inode, ReadError, Reader, Superblock};
pub use tree::TreeError;
pub use writer::{Limits, Options, Summary, WriteError, Writer};
pub use xattr::{Xattr, XattrError};
