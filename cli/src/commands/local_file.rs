//! Local files as entries of an archive.

use std::ffi::OsString;
use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::Context;
use tar_stream::{Device, Entry, EntryKind, Timestamp, Writer};

/// What an entry makes; `None` for a socket, which is of no use without its process.
pub(super) fn kind(metadata: &Metadata) -> Option<EntryKind> {
    let kind = metadata.file_type();
    let device = || Device {
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
    };
    Some(match () {
        () if kind.is_file() => EntryKind::Regular,
        () if kind.is_dir() => EntryKind::Directory,
        () if kind.is_symlink() => EntryKind::Symlink,
        () if kind.is_char_device() => EntryKind::CharDevice(device()),
        () if kind.is_block_device() => EntryKind::BlockDevice(device()),
        () if kind.is_fifo() => EntryKind::Fifo,
        () => return None,
    })
}

/// What an archive says of a file.
pub(super) fn describe(name: &[u8], kind: EntryKind, metadata: &Metadata) -> Entry {
    let mut entry = Entry::new(name, kind);
    entry.mode = (metadata.mode() & 0o7777) as u16;
    entry.uid = metadata.uid();
    entry.gid = metadata.gid();
    entry.mtime = Timestamp {
        seconds: metadata.mtime(),
        nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
    };
    entry
}

/// Writes the content of the entry that was begun, a buffer at a time. A file that has become shorter is filled with zeros,
/// of one that has become longer the rest is left out.
pub(super) fn fill<W: Write>(
    archive: &mut Writer<W>,
    file: &mut File,
    path: &Path,
    buffer: &mut [u8],
) -> anyhow::Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    while archive.left() > 0 {
        let room = buffer
            .len()
            .min(usize::try_from(archive.left()).unwrap_or(usize::MAX));
        let count = match file.read(&mut buffer[..room]).with_context(cannot)? {
            0 => {
                buffer[..room].fill(0);
                room
            }
            count => count,
        };
        archive.write(&buffer[..count])?;
    }
    Ok(())
}

/// The names in a directory, in an order that is always the same.
pub(super) fn sorted_names(directory: &Path) -> anyhow::Result<Vec<OsString>> {
    let entries = sorted_entries(directory)?;
    Ok(entries.into_iter().map(|(name, _)| name).collect())
}

/// The same, and what kind of file each is.
pub(super) fn sorted_entries(directory: &Path) -> anyhow::Result<Vec<(OsString, FileType)>> {
    let cannot = || format!("cannot read the directory {}", directory.display());
    let entries = fs::read_dir(directory).with_context(cannot)?;
    let mut sorted = entries
        .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))))
        .collect::<io::Result<Vec<_>>>()
        .with_context(cannot)?;
    sorted.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(sorted)
}
