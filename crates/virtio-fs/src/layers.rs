//! A flat, read-only directory of files that were handed over as open descriptors. Files may be added, and never go.

mod filesystem;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::stat64;
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::{DirEntry, Entry, ROOT_ID};
use fuse_backend_rs::transport::FsCacheReqHandler;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::attributes;
use crate::name::{NameError, entry_name};

/// How long the guest may keep what it was told of a file: none ever changes.
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
/// The guest sees files of mode 0444 and length as they were when they came, owned by root, without times and without
/// anything else that the host knows of them. The files must not change as long as this lives: the guest caches them
/// without limit.
pub struct LayerDirectory {
    files: RwLock<LayerFiles>,
    // The guest's kernel takes ENOSYS from OPEN as "no need to ask again", which saves two exits a file.
    open_needless: AtomicBool,
    opendir_needless: AtomicBool,
    // By offset in the window.
    mappings: Mutex<BTreeMap<u64, Mapping>>,
}

/// In the order in which they came.
#[derive(Default)]
struct LayerFiles {
    layers: Vec<Arc<Layer>>,
    by_name: HashMap<CString, u64>,
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
        let mut known = LayerFiles::default();
        known.add(files)?;
        Ok(LayerDirectory {
            files: RwLock::new(known),
            open_needless: AtomicBool::new(false),
            opendir_needless: AtomicBool::new(false),
            mappings: Mutex::new(BTreeMap::new()),
        })
    }

    /// Adds files at its end, all of them or none. A guest that has listed the directory before may not list them.
    pub fn add(&self, files: Vec<(String, File)>) -> Result<(), LayersError> {
        let mut known = self.files.write().unwrap_or_else(PoisonError::into_inner);
        known.add(files)
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

    fn files(&self) -> RwLockReadGuard<'_, LayerFiles> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
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

    fn layer(&self, node: u64) -> io::Result<Arc<Layer>> {
        let index = node
            .checked_sub(FIRST_FILE)
            .and_then(|index| usize::try_from(index).ok());
        let layer = index.and_then(|index| self.files().layers.get(index).cloned());
        layer.ok_or_else(|| {
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
        // Entries are looked at again while they are added.
        let layers = self.files().layers.clone();
        for (index, layer) in layers.iter().enumerate().skip(skip) {
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

impl LayerFiles {
    fn add(&mut self, files: Vec<(String, File)>) -> Result<(), LayersError> {
        let mut added = LayerFiles::default();
        for (name, file) in files {
            let entry = entry_name(&name)?;
            let metadata = file.metadata().map_err(|source| LayersError::Attributes {
                name: name.clone(),
                source,
            })?;
            if !metadata.is_file() {
                return Err(LayersError::NotAFile { name });
            }
            let node = FIRST_FILE + (self.layers.len() + added.layers.len()) as u64;
            if self.by_name.contains_key(&entry) || added.by_name.insert(entry.clone(), node).is_some() {
                return Err(LayersError::Duplicate { name });
            }
            added.layers.push(Arc::new(Layer {
                name: entry,
                fd: file.as_raw_fd(),
                file: Mutex::new(file),
                len: metadata.len(),
            }));
        }
        self.layers.append(&mut added.layers);
        self.by_name.extend(added.by_name);
        Ok(())
    }
}
