//! A context that comes in parts: a list of what is in it, and only the contents that are not here yet.

use std::collections::BTreeSet;
use std::path::Path;

use image_store::Digest;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tar_stream::Timestamp;

use super::Context;
use super::builder::{ContextAttributes, ContextBuilder, ContextLimits};
use super::error::ContextError;
use super::store::ContextStore;
use crate::file_tree::NodeKind;

/// What is not written as it is: a path is any bytes, and JSON has text only.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// What is in a context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its files, in any order.
    pub entries: Vec<ManifestEntry>,
}

/// A file in a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Its path beneath the context. Written percent-encoded (RFC 3986, section 2.1) where it is not printable ASCII.
    #[serde(serialize_with = "escape", deserialize_with = "unescape")]
    pub path: Vec<u8>,
    /// What kind of file it is.
    #[serde(flatten)]
    pub kind: ManifestKind,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
}

/// What kind of file an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ManifestKind {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// What its content is.
        digest: Digest,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it leads, written as paths are.
        #[serde(serialize_with = "escape", deserialize_with = "unescape")]
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
}

fn escape<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&percent_encode(path, ESCAPED))
}

fn unescape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(percent_decode_str(&text).collect())
}

impl Manifest {
    /// The contents that have to be sent: those that the store lacks, each once.
    pub fn missing(&self, store: &ContextStore) -> Vec<Digest> {
        let mut missing = BTreeSet::new();
        for entry in &self.entries {
            if let ManifestKind::File { size, digest } = &entry.kind
                && store.lease(digest, *size).is_none()
            {
                missing.insert(*digest);
            }
        }
        missing.into_iter().collect()
    }
}

impl Context {
    /// The context that a manifest describes, with contents that are all in `store`, where they are held as long as it lives.
    /// `folder` is for a temporary file.
    ///
    /// # Errors
    /// Content that is missing, because it was not sent or had to make room meanwhile.
    pub fn from_manifest(
        manifest: &Manifest,
        store: &ContextStore,
        folder: &Path,
        limits: ContextLimits,
    ) -> Result<Self, ContextError> {
        let mut context = ContextBuilder::new(folder, limits)?;
        for entry in &manifest.entries {
            let (seconds, nanoseconds) = entry.mtime;
            let attributes = ContextAttributes {
                mode: entry.mode,
                mtime: Timestamp {
                    seconds,
                    nanoseconds: nanoseconds.min(999_999_999),
                },
                xattrs: Vec::new(),
            };
            let path = &entry.path;
            match &entry.kind {
                ManifestKind::File { size, digest } => {
                    context.stored_file(path, attributes, (*digest, *size), store)?;
                }
                ManifestKind::Directory => context.directory(path, attributes)?,
                ManifestKind::Symlink { target } => context.symlink(path, attributes, target)?,
                ManifestKind::Fifo => context.special(path, attributes, NodeKind::Fifo)?,
            }
        }
        context.finish()
    }
}
