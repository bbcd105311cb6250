//! Listing directories of the host.

use std::io;

use fuse_backend_rs::api::filesystem::{DirEntry, Entry};
use rustix::fs::{RawDir, SeekFrom};

use super::nodes::Nodes;
use super::{Folders, entry};

/// The least bytes of a directory to read from the host at once: enough for `.`, `..` and the longest name.
const LEAST_BATCH: usize = 512;

/// The most bytes of a directory to read from the host at once.
const LARGEST_BATCH: usize = 64 * 1024;

/// What became of a directory entry.
pub(super) enum Added {
    /// It is in the reply.
    Yes,
    /// It is of no use to the guest.
    Skipped,
    /// The reply is full.
    NoRoom,
}

impl From<usize> for Added {
    fn from(bytes: usize) -> Added {
        if bytes == 0 { Added::NoRoom } else { Added::Yes }
    }
}

impl Folders {
    pub(super) fn folder_entry(&self, folder: usize) -> io::Result<Entry> {
        let number = Nodes::root(folder);
        let stat = rustix::fs::fstat(&self.nodes.get(number)?.file)?;
        Ok(entry(number, &stat))
    }

    pub(super) fn list_root(
        &self,
        offset: u64,
        add: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (folder, shared) in self.shared.iter().enumerate().skip(skip) {
            let entry = self.folder_entry(folder)?;
            let directory_entry = DirEntry {
                ino: entry.attr.st_ino,
                offset: folder as u64 + 1,
                type_: entry.attr.st_mode >> 12,
                name: shared.name.to_bytes(),
            };
            if add(directory_entry, entry)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Calls `add` for each entry of an open directory from `offset` on, until it has no more room.
    ///
    /// `batch` is how many bytes of the directory to read from the host at once. The host goes on where it stopped as
    /// long as the guest does: some file systems lose their place in a directory that changes when they are sent back.
    pub(super) fn list(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        batch: usize,
        add: &mut dyn FnMut(DirEntry) -> io::Result<Added>,
    ) -> io::Result<()> {
        let handle = self.handles.get(handle, node)?;
        let mut directory = handle.open();
        if directory.position != offset {
            rustix::fs::seek(&directory.file, SeekFrom::Start(offset))?;
        }
        // Not where the host stands, unless all that it gave is passed on.
        directory.position = u64::MAX;
        let mut buffer: Vec<u8> = Vec::with_capacity(batch.clamp(LEAST_BATCH, LARGEST_BATCH));
        let mut entries = RawDir::new(&directory.file, buffer.spare_capacity_mut());
        let (mut position, mut any) = (offset, false);
        while !(any && entries.is_buffer_empty()) {
            let Some(entry) = entries.next().transpose()? else {
                break;
            };
            let next = entry.next_entry_cookie();
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let directory_entry = DirEntry {
                    ino: entry.ino(),
                    offset: next,
                    type_: entry.file_type().as_raw_mode() >> 12,
                    name: name.to_bytes(),
                };
                match add(directory_entry) {
                    Ok(Added::Yes) => any = true,
                    Ok(Added::Skipped) => {}
                    Ok(Added::NoRoom) => return Ok(()),
                    // What has been added counts as looked up by the guest: it must reach it.
                    Err(_) if any => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            position = next;
        }
        directory.position = position;
        Ok(())
    }
}
