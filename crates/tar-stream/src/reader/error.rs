//! Why reading ends.

use std::io;

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
