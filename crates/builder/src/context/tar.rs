//! A context as docker's clients send it: a tar archive, compressed or not.

use std::io::{BufReader, Read};
use std::path::Path;

use image_store::{Limits, decompress};
use tar_stream::{Device, Entry, EntryKind, Reader, Timestamp};

use super::Context;
use super::builder::{ContextAttributes, ContextBuilder, ContextLimits};
use super::error::ContextError;
use crate::file_tree::NodeKind;

impl Context {
    /// Reads a tar archive, compressed with gzip, bzip2, xz or zstd or not at all. Contents go to a temporary file without a name
    /// in `folder`.
    pub fn from_tar(input: impl Read, folder: &Path, limits: ContextLimits) -> Result<Self, ContextError> {
        let mut context = ContextBuilder::new(folder, limits)?;
        context.add_tar(input, None)?;
        context.finish()
    }
}

impl ContextBuilder {
    /// Adds all files of an archive, with their own times or with this one.
    pub(crate) fn add_tar(&mut self, input: impl Read, mtime: Option<Timestamp>) -> Result<(), ContextError> {
        let (_, plain) = decompress(input, &Limits::default()).map_err(ContextError::Read)?;
        let mut archive = Reader::new(BufReader::with_capacity(128 << 10, plain));
        while let Some(mut entry) = archive.next()? {
            entry.mtime = mtime.unwrap_or(entry.mtime);
            add(self, &mut archive, &entry)?;
        }
        Ok(())
    }
}

fn add<R: Read>(
    context: &mut ContextBuilder,
    archive: &mut Reader<R>,
    entry: &Entry,
) -> Result<(), ContextError> {
    let attributes = ContextAttributes {
        mode: entry.mode,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    };
    let path = &entry.path;
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
