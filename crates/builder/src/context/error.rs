//! Why a build context is refused.

use std::io;

use image_store::Digest;
use tar_stream::ArchiveError;

use super::store::ContextStoreError;

/// Why a build context is refused.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The archive is malformed.
    #[error("cannot read the build context: {0}")]
    Archive(#[from] ArchiveError),
    /// It cannot be decompressed, or does not come.
    #[error("cannot read the build context: {0}")]
    Read(#[source] io::Error),
    /// The temporary file for it.
    #[error("cannot keep the build context in {folder}: {source}")]
    Spool {
        /// Where it was to be.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
    /// A path that leads out of the context, or that no file can have.
    #[error("the build context has the path {path}, which {why}; it is refused")]
    Path {
        /// The path, unprintable bytes escaped.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A hard link to nothing.
    #[error("the build context has the hard link {path} to {target}, which is not a file in it")]
    HardLink {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// It is too large.
    #[error(
        "the build context exceeds {limit} {what}; keep what the build does not need out of it with a .dockerignore file"
    )]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A manifest names content that was not sent.
    #[error("the content of {path} ({digest}) was not sent, or had to make room meanwhile; build again")]
    Missing {
        /// The file.
        path: String,
        /// What its content should be.
        digest: Digest,
    },
    /// The store of contents.
    #[error(transparent)]
    Store(#[from] ContextStoreError),
}
