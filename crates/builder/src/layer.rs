//! One layer: the EROFS image that the image store made of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use erofs::{DirEntry, FileType, Inode, ReadError, Reader};
use image_store::{Digest, Hasher};
use tokio_util::sync::CancellationToken;

use crate::block_file::BlockFile;
use crate::cancellation::check;
use crate::file_tree::TreeError;

/// Memory for the directories of one layer that were read last, in bytes.
const MAX_DIRECTORIES: usize = 8 << 20;
/// Files of one layer whose digests are kept.
const MAX_DIGESTS: usize = 1 << 16;

/// A layer that is open. What was read of it is kept for all trees that it is in.
pub struct Layer {
    diff_id: Digest,
    /// Unlike any other layer or context of this process.
    pub(crate) serial: u64,
    file: Arc<File>,
    reader: Mutex<Reader<BlockFile>>,
    directories: Mutex<Directories>,
    digests: Mutex<HashMap<u64, Digest>>,
}

/// A number that nothing else in this process has.
pub(crate) fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Layer {
    /// Opens the file system image at `path`, which the image store made of the archive `diff_id`. The file stays readable if it
    /// is removed meanwhile.
    pub fn open(diff_id: Digest, path: &Path) -> Result<Arc<Self>, TreeError> {
        let file = File::open(path).map_err(|source| TreeError::OpenLayer {
            layer: diff_id,
            source,
        })?;
        let file = Arc::new(file);
        let reader = Reader::open(BlockFile::new(file.clone()));
        let reader = reader.map_err(|source| TreeError::Layer {
            layer: diff_id,
            source,
        })?;
        Ok(Arc::new(Self {
            diff_id,
            serial: next_serial(),
            file,
            reader: Mutex::new(reader),
            directories: Mutex::default(),
            digests: Mutex::default(),
        }))
    }

    /// The digest of the archive that it was made of.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    pub(crate) fn root(&self) -> Result<Inode, TreeError> {
        self.read(|reader| reader.root())
    }

    pub(crate) fn inode(&self, nid: u64) -> Result<Inode, TreeError> {
        self.read(|reader| reader.inode(nid))
    }

    /// The names in the directory `nid`, in order.
    pub(crate) fn directory(&self, nid: u64) -> Result<Arc<[DirEntry]>, TreeError> {
        let lock = || self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = lock().get(nid) {
            return Ok(entries);
        }
        let entries: Arc<[DirEntry]> = self
            .read(|reader| {
                let inode = reader.inode(nid)?;
                reader.read_dir(&inode)
            })?
            .into();
        lock().put(nid, entries.clone());
        Ok(entries)
    }

    /// The target of the symbolic link `nid`.
    pub(crate) fn link_target(&self, nid: u64) -> Result<Vec<u8>, TreeError> {
        self.read(|reader| {
            let inode = reader.inode(nid)?;
            reader.read(&inode)
        })
    }

    /// The content of the file `nid`, read independently of everything else.
    pub(crate) fn content(&self, nid: u64) -> Result<LayerContent, TreeError> {
        let opened = Reader::open(BlockFile::new(self.file.clone())).and_then(|mut reader| {
            let inode = reader.inode(nid)?;
            Ok((reader, inode))
        });
        let (reader, inode) = opened.map_err(|source| self.error(source))?;
        if inode.file_type != FileType::Regular {
            let what = "it is not a regular file";
            return Err(self.error(ReadError::Damaged { nid, what }));
        }
        Ok(LayerContent {
            reader,
            inode,
            offset: 0,
        })
    }

    /// The digest of the content of the file `nid`.
    pub(crate) fn content_digest(&self, nid: u64, token: &CancellationToken) -> Result<Digest, TreeError> {
        let lock = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = lock().get(&nid) {
            return Ok(*digest);
        }
        let mut content = self.content(nid)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            check(token)?;
            let read = content
                .reader
                .read_some(&content.inode, content.offset, &mut buffer);
            match read.map_err(|source| self.error(source))? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    content.offset += count as u64;
                }
            }
        }
        let digest = hasher.finish();
        let mut digests = lock();
        if digests.len() >= MAX_DIGESTS {
            digests.clear();
        }
        digests.insert(nid, digest);
        Ok(digest)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&mut Reader<BlockFile>) -> Result<T, ReadError>,
    ) -> Result<T, TreeError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        read(&mut reader).map_err(|source| self.error(source))
    }

    fn error(&self, source: ReadError) -> TreeError {
        let layer = self.diff_id;
        TreeError::Layer { layer, source }
    }
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Layer").field(&self.diff_id).finish()
    }
}

/// The content of a file in a layer.
pub(crate) struct LayerContent {
    reader: Reader<BlockFile>,
    inode: Inode,
    offset: u64,
}

impl Read for LayerContent {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read_some(&self.inode, self.offset, into);
        let count = read.map_err(io::Error::other)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Seek for LayerContent {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(by) => self.inode.size.checked_add_signed(by),
        };
        self.offset = offset.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}

/// Directories that were read, the last ones.
#[derive(Default)]
struct Directories {
    kept: HashMap<u64, (u64, Arc<[DirEntry]>)>,
    clock: u64,
    bytes: usize,
}

impl Directories {
    fn get(&mut self, nid: u64) -> Option<Arc<[DirEntry]>> {
        self.clock += 1;
        let (used, entries) = self.kept.get_mut(&nid)?;
        *used = self.clock;
        Some(entries.clone())
    }

    /// Keeps one, in the place of those that were not used for longest. One that is too large is not kept.
    fn put(&mut self, nid: u64, entries: Arc<[DirEntry]>) {
        let size = Self::size(&entries);
        if size > MAX_DIRECTORIES / 2 {
            return;
        }
        self.clock += 1;
        if let Some((_, old)) = self.kept.insert(nid, (self.clock, entries)) {
            self.bytes -= Self::size(&old);
        }
        self.bytes += size;
        if self.bytes <= MAX_DIRECTORIES {
            return;
        }
        let mut by_use: Vec<(u64, u64)> = self.kept.iter().map(|(nid, (used, _))| (*used, *nid)).collect();
        by_use.sort_unstable();
        // Down to a half, so that this is rare.
        for (_, nid) in by_use {
            if self.bytes <= MAX_DIRECTORIES / 2 {
                break;
            }
            if let Some((_, old)) = self.kept.remove(&nid) {
                self.bytes -= Self::size(&old);
            }
        }
    }

    fn size(entries: &[DirEntry]) -> usize {
        let names: usize = entries.iter().map(|entry| entry.name.len()).sum();
        names + size_of_val(entries) + 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_kept_within_their_bound() {
        let mut directories = Directories::default();
        let entries: Arc<[DirEntry]> = (0..1000u64)
            .map(|nid| DirEntry {
                name: vec![b'x'; 200],
                nid,
                file_type: FileType::Regular,
            })
            .collect();
        for nid in 0..200 {
            directories.put(nid, entries.clone());
            assert!(directories.bytes <= MAX_DIRECTORIES);
            // What is used again and again stays.
            assert!(directories.get(0).is_some());
        }
        assert!(directories.get(1).is_none());
        assert!(directories.get(199).is_some());
        let sum: usize = directories
            .kept
            .values()
            .map(|(_, entries)| Directories::size(entries))
            .sum();
        assert_eq!(directories.bytes, sum);
    }
}
