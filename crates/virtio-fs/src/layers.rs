//! A flat, immutable, read-only directory of files that were handed over as open descriptors.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, stat64};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions, ROOT_ID,
    SetattrValid, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::transport::FsCacheReqHandler;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::attributes;
use crate::name::{NameError, entry_name};

/// How long the guest may keep what it was told: nothing here ever changes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Node number of the first file; the root is 1.
const FIRST_FILE: u64 = ROOT_ID + 1;

/// Page size of the host, in bytes.
const PAGE: u64 = 4096;

/// The unit in which the DAX window is used, in bytes: Linux maps ranges of this size. Smaller ones are refused, because
/// each costs the host a mapping of its own, and their number is limited.
pub const DAX_RANGE: u64 = 2 << 20;

/// Why a directory of layer files could not be made.
#[derive(Debug, Error)]
pub enum LayersError {
    /// A file's name is no directory entry.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two files have the same name.
    #[error("two layer files are named {name:?}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The length of a file could not be read.
    #[error("cannot read the attributes of layer file {name:?}: {source}")]
    Attributes {
        /// The file's name in the directory.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A descriptor is not a regular file.
    #[error("layer {name:?} is not a regular file")]
    NotAFile {
        /// The file's name in the directory.
        name: String,
    },
}

struct Layer {
    name: CString,
    // Reads are positional; the lock only lends the file mutably, as the transport wants it.
    file: Mutex<File>,
    fd: RawFd,
    len: u64,
}

/// The file system of a layers device.
///
/// The guest sees files of mode 0444 and length as they were at the start, owned by root, without times and without
/// anything else that the host knows of them. The files must not change as long as this lives: the guest caches them
/// without limit.
pub struct LayerDirectory {
    layers: Vec<Layer>,
    by_name: HashMap<CString, u64>,
    // The guest's kernel takes ENOSYS from OPEN as "no need to ask again", which saves two exits a file.
    open_needless: AtomicBool,
    opendir_needless: AtomicBool,
    // By offset in the window.
    mappings: Mutex<BTreeMap<u64, Mapping>>,
}

/// A part of a file that the guest sees in the DAX window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mapping {
    /// Where in the window it begins: a multiple of [`DAX_RANGE`].
    pub window_offset: u64,
    /// The file's node number.
    pub node: u64,
    /// Where in the file it begins: a multiple of [`DAX_RANGE`].
    pub file_offset: u64,
}

/// What a guest agreed on with a [`LayerDirectory`], for saving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayersState {
    /// Whether the guest's kernel opens files without asking.
    pub open_needless: bool,
    /// Whether the guest's kernel opens directories without asking.
    pub opendir_needless: bool,
    /// What the DAX window shows.
    pub mappings: Vec<Mapping>,
}

impl LayerDirectory {
    /// A directory of `files`, listed in the order given.
    pub fn new(files: Vec<(String, File)>) -> Result<LayerDirectory, LayersError> {
        let mut layers = Vec::with_capacity(files.len());
        let mut by_name = HashMap::with_capacity(files.len());
        for (node, (name, file)) in (FIRST_FILE..).zip(files) {
            let entry = entry_name(&name)?;
            let metadata = file.metadata().map_err(|source| LayersError::Attributes {
                name: name.clone(),
                source,
            })?;
            if !metadata.is_file() {
                return Err(LayersError::NotAFile { name });
            }
            if by_name.insert(entry.clone(), node).is_some() {
                return Err(LayersError::Duplicate { name });
            }
            layers.push(Layer {
                name: entry,
                fd: file.as_raw_fd(),
                file: Mutex::new(file),
                len: metadata.len(),
            });
        }
        Ok(LayerDirectory {
            layers,
            by_name,
            open_needless: AtomicBool::new(false),
            opendir_needless: AtomicBool::new(false),
            mappings: Mutex::new(BTreeMap::new()),
        })
    }

    /// What the guest agreed on and mapped.
    pub fn save(&self) -> LayersState {
        LayersState {
            open_needless: self.open_needless.load(Ordering::Relaxed),
            opendir_needless: self.opendir_needless.load(Ordering::Relaxed),
            mappings: self.mappings().values().copied().collect(),
        }
    }

    /// Takes over what [`save`](Self::save) returned. The window is filled by [`fill_window`](Self::fill_window).
    pub fn restore(&self, state: LayersState) {
        self.open_needless.store(state.open_needless, Ordering::Relaxed);
        self.opendir_needless
            .store(state.opendir_needless, Ordering::Relaxed);
        *self.mappings() = state
            .mappings
            .into_iter()
            .map(|mapping| (mapping.window_offset, mapping))
            .collect();
    }

    /// Maps into an empty window what the guest expects to see there.
    ///
    /// # Errors
    /// A mapping names no file of this directory, or `window` refuses it.
    pub fn fill_window(&self, window: &mut dyn FsCacheReqHandler) -> io::Result<()> {
        for mapping in self.mappings().values() {
            self.map(mapping, DAX_RANGE, window)?;
        }
        Ok(())
    }

    fn mappings(&self) -> MutexGuard<'_, BTreeMap<u64, Mapping>> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(&self, mapping: &Mapping, len: u64, window: &mut dyn FsCacheReqHandler) -> io::Result<()> {
        let Mapping {
            window_offset,
            node,
            file_offset,
        } = *mapping;
        let layer = self.layer(node)?;
        // The guest asks for whole ranges. What lies beyond the file's last page must not be mapped from the file:
        // touching it would fault. It keeps the window's own empty pages.
        let end = layer.len.div_ceil(PAGE).saturating_mul(PAGE);
        let mapped = len.min(end.saturating_sub(file_offset));
        if mapped < len {
            window.unmap(vec![RemovemappingOne {
                moffset: window_offset,
                len,
            }])?;
        }
        if mapped == 0 {
            return Ok(());
        }
        window.map(
            file_offset,
            window_offset,
            mapped,
            SetupmappingFlags::READ.bits(),
            layer.fd,
        )
    }

    fn layer(&self, node: u64) -> io::Result<&Layer> {
        let index = node
            .checked_sub(FIRST_FILE)
            .and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.layers.get(index)).ok_or_else(|| {
            let root = node == ROOT_ID;
            if root {
                Errno::ISDIR.into()
            } else {
                Errno::STALE.into()
            }
        })
    }

    fn attributes(&self, node: u64) -> io::Result<stat64> {
        if node == ROOT_ID {
            return Ok(attributes::synthetic(node, libc::S_IFDIR | 0o555, 2, 0));
        }
        Ok(attributes::synthetic(
            node,
            libc::S_IFREG | 0o444,
            1,
            self.layer(node)?.len,
        ))
    }

    fn entry(&self, node: u64) -> io::Result<Entry> {
        Ok(Entry {
            inode: node,
            attr: self.attributes(node)?,
            attr_timeout: FOREVER,
            entry_timeout: FOREVER,
            ..Entry::default()
        })
    }

    /// Calls `add` for each entry from `offset` on, until it has no more room.
    fn list(
        &self,
        node: u64,
        offset: u64,
        add: &mut dyn FnMut(DirEntry, u64) -> io::Result<usize>,
    ) -> io::Result<()> {
        if node != ROOT_ID {
            return Err(Errno::NOTDIR.into());
        }
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, layer) in self.layers.iter().enumerate().skip(skip) {
            let ino = FIRST_FILE + index as u64;
            let entry = DirEntry {
                ino,
                offset: index as u64 + 1,
                type_: u32::from(libc::DT_REG),
                name: layer.name.to_bytes(),
            };
            if add(entry, ino)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(Errno::ROFS.into())
}

impl FileSystem for LayerDirectory {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        self.open_needless
            .store(capable.contains(FsOptions::ZERO_MESSAGE_OPEN), Ordering::Relaxed);
        self.opendir_needless.store(
            capable.contains(FsOptions::ZERO_MESSAGE_OPENDIR),
            Ordering::Relaxed,
        );
        Ok(FsOptions::ASYNC_READ
            | FsOptions::BIG_WRITES
            | FsOptions::MAX_PAGES
            | FsOptions::INIT_EXT
            | FsOptions::PARALLEL_DIROPS
            | FsOptions::DO_READDIRPLUS
            | FsOptions::READDIRPLUS_AUTO
            | FsOptions::ZERO_MESSAGE_OPEN
            | FsOptions::ZERO_MESSAGE_OPENDIR)
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        if parent != ROOT_ID {
            self.layer(parent)?;
            return Err(Errno::NOTDIR.into());
        }
        match self.by_name.get(name) {
            Some(&node) => self.entry(node),
            // Node 0 is an answer that may be cached: there will never be such a file.
            None => Ok(Entry {
                inode: 0,
                entry_timeout: FOREVER,
                ..Entry::default()
            }),
        }
    }

    fn getattr(&self, _: &Context, node: u64, _: Option<u64>) -> io::Result<(stat64, Duration)> {
        Ok((self.attributes(node)?, FOREVER))
    }

    fn open(
        &self,
        _: &Context,
        node: u64,
        flags: u32,
        _: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        self.layer(node)?;
        let flags = flags as i32;
        if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0 {
            return read_only();
        }
        if self.open_needless.load(Ordering::Relaxed) {
            return Err(Errno::NOSYS.into());
        }
        Ok((None, OpenOptions::KEEP_CACHE, None))
    }

    fn release(
        &self,
        _: &Context,
        node: u64,
        _: u32,
        _: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> io::Result<()> {
        self.layer(node).map(drop)
    }

    fn read(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        let layer = self.layer(node)?;
        let left = layer.len.saturating_sub(offset);
        let count = u64::from(size).min(left).min(w.available_bytes() as u64) as usize;
        if count == 0 {
            return Ok(0);
        }
        let mut file = layer.file.lock().map_err(|_| io::Error::from(Errno::IO))?;
        w.write_from(&mut *file, count, offset)
    }

    fn setupmapping(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        foffset: u64,
        len: u64,
        flags: u64,
        moffset: u64,
        window: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        self.layer(node)?;
        if flags & SetupmappingFlags::WRITE.bits() != 0 {
            return read_only();
        }
        if !moffset.is_multiple_of(DAX_RANGE) || !foffset.is_multiple_of(DAX_RANGE) || len != DAX_RANGE {
            return Err(Errno::INVAL.into());
        }
        let mapping = Mapping {
            window_offset: moffset,
            node,
            file_offset: foffset,
        };
        self.map(&mapping, len, window)?;
        self.mappings().insert(moffset, mapping);
        Ok(())
    }

    fn removemapping(
        &self,
        _: &Context,
        _: u64,
        requests: Vec<RemovemappingOne>,
        window: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        if requests
            .iter()
            .any(|part| part.moffset % DAX_RANGE != 0 || part.len != DAX_RANGE)
        {
            return Err(Errno::INVAL.into());
        }
        for part in requests {
            window.unmap(vec![part])?;
            self.mappings().remove(&part.moffset);
        }
        Ok(())
    }

    fn destroy(&self) {
        self.mappings().clear();
    }

    fn opendir(&self, _: &Context, node: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        if node != ROOT_ID {
            self.layer(node)?;
            return Err(Errno::NOTDIR.into());
        }
        if self.opendir_needless.load(Ordering::Relaxed) {
            return Err(Errno::NOSYS.into());
        }
        Ok((None, OpenOptions::KEEP_CACHE | OpenOptions::CACHE_DIR))
    }

    fn releasedir(&self, _: &Context, _: u64, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn readdir(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        _: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(node, offset, &mut |entry, _| add_entry(entry))
    }

    fn readdirplus(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        _: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(node, offset, &mut |entry, file| {
            add_entry(entry, self.entry(file)?)
        })
    }

    // Everything that would change something. What is not listed answers ENOSYS by default.

    fn setattr(
        &self,
        _: &Context,
        _: u64,
        _: stat64,
        _: Option<u64>,
        _: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        read_only()
    }

    fn symlink(&self, _: &Context, _: &CStr, _: u64, _: &CStr) -> io::Result<Entry> {
        read_only()
    }

    fn mknod(&self, _: &Context, _: u64, _: &CStr, _: u32, _: u32, _: u32) -> io::Result<Entry> {
        read_only()
    }

    fn mkdir(&self, _: &Context, _: u64, _: &CStr, _: u32, _: u32) -> io::Result<Entry> {
        read_only()
    }

    fn unlink(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        read_only()
    }

    fn rmdir(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        read_only()
    }

    fn rename(&self, _: &Context, _: u64, _: &CStr, _: u64, _: &CStr, _: u32) -> io::Result<()> {
        read_only()
    }

    fn link(&self, _: &Context, _: u64, _: u64, _: &CStr) -> io::Result<Entry> {
        read_only()
    }

    fn create(
        &self,
        _: &Context,
        _: u64,
        _: &CStr,
        _: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        read_only()
    }

    fn write(
        &self,
        _: &Context,
        _: u64,
        _: u64,
        _: &mut dyn ZeroCopyReader,
        _: u32,
        _: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        _: u32,
    ) -> io::Result<usize> {
        read_only()
    }

    fn fallocate(&self, _: &Context, _: u64, _: u64, _: u32, _: u64, _: u64) -> io::Result<()> {
        read_only()
    }

    fn setxattr(&self, _: &Context, _: u64, _: &CStr, _: &[u8], _: u32) -> io::Result<()> {
        read_only()
    }

    fn removexattr(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        read_only()
    }

    fn getxattr(&self, _: &Context, _: u64, _: &CStr, _: u32) -> io::Result<GetxattrReply> {
        // The guest's kernel does not ask again.
        Err(Errno::NOSYS.into())
    }

    fn listxattr(&self, _: &Context, _: u64, _: u32) -> io::Result<ListxattrReply> {
        Err(Errno::NOSYS.into())
    }
}

#[cfg(test)]
mod tests;
