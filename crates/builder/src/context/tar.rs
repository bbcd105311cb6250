//! A context as clients send it: a tar archive, compressed or not.
//!
//! A client may leave out what an earlier context had: it says of a large file what its content is, and sends the content only if the
//! [`ContextStore`] lacks it.

use std::io::{BufReader, Read};
use std::path::Path;

use image_store::{Digest, Limits, decompress};
use tar_stream::{Device, Entry, EntryKind, Reader, Timestamp, Xattr};

use super::Context;
use super::builder::{ContextAttributes, ContextBuilder, ContextLimits};
use super::error::ContextError;
use super::store::ContextStore;
use crate::file_tree::{NodeKind, printable};

/// The attribute of a file whose content is not behind it but in the store: its digest, a space and its size in bytes. No file system
/// has attributes with such a name.
pub const STORED_CONTENT: &str = "hull.content";
/// Files from this size on, in bytes, are kept for later contexts: about a smaller one there would be as much to say as there is in it.
pub const LEAST_STORED: u64 = 64 << 10;

impl Context {
    /// Reads a tar archive, compressed with gzip, bzip2, xz or zstd or not at all. Contents go to a temporary file without a name
    /// in `folder`.
    pub fn from_tar(input: impl Read, folder: &Path, limits: ContextLimits) -> Result<Self, ContextError> {
        let mut context = ContextBuilder::new(folder, limits)?;
        context.add_tar(input, None)?;
        context.finish()
    }

    /// Reads one whose large files may be without their contents. Contents that come are kept in the store.
    pub fn from_tar_and_store(
        input: impl Read,
        store: &ContextStore,
        folder: &Path,
        limits: ContextLimits,
    ) -> Result<Self, ContextError> {
        let mut context = ContextBuilder::new(folder, limits)?;
        read(input, |archive, entry| match entry.kind {
            EntryKind::Regular => add_stored(&mut context, archive, &entry, store),
            _ => add(&mut context, archive, &entry),
        })?;
        context.finish()
    }
}

impl ContextBuilder {
    /// Adds all files of an archive, with their own times or with this one.
    pub(crate) fn add_tar(&mut self, input: impl Read, mtime: Option<Timestamp>) -> Result<(), ContextError> {
        read(input, |archive, mut entry| {
            entry.mtime = mtime.unwrap_or(entry.mtime);
            add(self, archive, &entry)
        })
    }
}

/// An archive that is decompressed while it is read.
type Archive<'a> = Reader<BufReader<Box<dyn Read + 'a>>>;

fn read<'a>(
    input: impl Read + 'a,
    mut each: impl FnMut(&mut Archive<'a>, Entry) -> Result<(), ContextError>,
) -> Result<(), ContextError> {
    let (_, plain) = decompress(input, &Limits::default()).map_err(ContextError::Read)?;
    let mut archive = Reader::new(BufReader::with_capacity(128 << 10, plain));
    while let Some(entry) = archive.next()? {
        each(&mut archive, entry)?;
    }
    Ok(())
}

/// A regular file whose content is in the store, or comes to it.
fn add_stored<R: Read>(
    context: &mut ContextBuilder,
    archive: &mut Reader<R>,
    entry: &Entry,
    store: &ContextStore,
) -> Result<(), ContextError> {
    let is_stored = |xattr: &&Xattr| xattr.name == STORED_CONTENT.as_bytes();
    let content = match entry.xattrs.iter().find(is_stored) {
        Some(named) => parse(&named.value).ok_or_else(|| ContextError::Path {
            path: printable(&entry.path),
            why: "is said to have a content that is no digest with a size".into(),
        })?,
        None if entry.size < LEAST_STORED => return add(context, archive, entry),
        None => {
            context.check_content(entry.size)?;
            match store.reserve(entry.size) {
                Some(room) => (room.fill(&mut archive.content(entry))?, entry.size),
                // What others use leaves too little.
                None => return add(context, archive, entry),
            }
        }
    };
    let mut attributes = attributes(entry);
    attributes.xattrs.retain(|xattr| !is_stored(&xattr));
    context.stored_file(&entry.path, attributes, content, store)
}

fn parse(text: &[u8]) -> Option<(Digest, u64)> {
    let (digest, size) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    Some((digest.parse().ok()?, size.parse().ok()?))
}

fn attributes(entry: &Entry) -> ContextAttributes {
    ContextAttributes {
        mode: entry.mode,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    }
}

fn add<R: Read>(
    context: &mut ContextBuilder,
    archive: &mut Reader<R>,
    entry: &Entry,
) -> Result<(), ContextError> {
    let (path, attributes) = (&entry.path, attributes(entry));
    match entry.kind {
        EntryKind::Regular => {
            context.check_content(entry.size)?;
            context
                .file(path, attributes, &mut archive.content(entry))
                .map(drop)
        }
        EntryKind::Directory => context.directory(path, attributes),
        EntryKind::Symlink => context.symlink(path, attributes, &entry.link),
        EntryKind::HardLink => context.hard_link(path, &entry.link),
        EntryKind::Fifo => context.special(path, attributes, NodeKind::Fifo),
        // It would remove a file of the layers below instead of making one.
        EntryKind::CharDevice(Device { major: 0, minor: 0 }) => Ok(()),
        EntryKind::CharDevice(device) => context.special(path, attributes, NodeKind::CharDevice(device)),
        EntryKind::BlockDevice(device) => context.special(path, attributes, NodeKind::BlockDevice(device)),
    }
}
