//! Tar archives, entry by entry, read from and written to streams.
//!
//! What is read may be hostile: every length is bounded before memory is taken for it, and nothing is ever looked up
//! in, or created on, a file system. Paths and link targets are only bytes, which whoever unpacks them has to distrust.
//!
//! What is written is ustar with pax records (POSIX.1-2017, "pax Interchange Format") for what does not fit:
//! long or odd names, large numbers, nanoseconds, extended attributes (`SCHILY.xattr.`) and sparse files (GNU's
//! version 1.0).

mod entry;
mod hard_links;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use entry::{Device, Entry, EntryKind, Timestamp, Xattr};
pub use hard_links::{FileId, HardLinks};
pub use reader::{ArchiveError, Content, Reader};
pub use sparse::Segment;
pub use writer::{WriteError, Writer};
