//! Several host folders as directories at the root of one file system, each confined to itself.
//!
//! How a folder confines: every node is an `O_PATH | O_NOFOLLOW` descriptor that was opened by one plain name in the
//! directory the guest named by number, starting at the folder's root. `..` is never resolved, a symbolic link is
//! never followed, and nothing is opened by a path. A file is opened for reading or writing through `/proc/self/fd`,
//! so the process needs that directory, and only regular files and directories are.
//!
//! Ownership: what the guest creates is given to the user and group that created it, and gets exactly the mode that
//! was asked for, whatever the process's umask is. That takes CAP_CHOWN; without it files belong to the user that the
//! process runs as. Permissions are the guest kernel's to check (virtio-fs mounts with `default_permissions`); towards
//! the host everything happens with the rights of the process.

mod create;
mod filesystem;
mod handles;
mod listing;
mod nodes;
mod state;
mod xattr;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use fuse_backend_rs::api::filesystem::Entry;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use thiserror::Error;

use crate::attributes;
use crate::name::{NameError, component, entry_name};
use handles::Handles;
use nodes::{Identity, Node, Nodes};
pub use state::{FoldersState, HandleState, NodeState};

/// How long the guest may believe what it was told of a host file: others change it, too.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The most nodes, and the most open files, that one guest may hold. Both are bounded further by the limit on
/// descriptors of the process.
const MAX_NODES: usize = 1 << 20;
const MAX_HANDLES: usize = 1 << 16;

/// A folder to show, or a single file.
#[derive(Debug)]
pub struct Folder {
    /// Its name at the root of the file system.
    pub name: String,
    /// The directory, or a regular file, which then stands alone at the root. `O_PATH` is enough.
    pub root: File,
    /// Whether to refuse every change.
    pub read_only: bool,
}

/// Why folders could not be shown.
#[derive(Debug, Error)]
pub enum FoldersError {
    /// A folder's name is no directory entry.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two folders have the same name.
    #[error("two shared folders are named {name:?}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A root could not be looked at.
    #[error("cannot open the root of shared folder {name:?}: {source}")]
    Root {
        /// The folder's name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A root can be neither listed nor read.
    #[error("the root of shared folder {name:?} is neither a directory nor a regular file")]
    Kind {
        /// The folder's name.
        name: String,
    },
    /// The process cannot reopen its own descriptors.
    #[error("cannot open /proc/self/fd, through which shared files are opened: {source}")]
    Proc {
        /// Why.
        source: io::Error,
    },
}

struct Shared {
    name: CString,
    read_only: bool,
}

/// The file system of a folders device.
pub struct Folders {
    shared: Vec<Shared>,
    nodes: Nodes,
    handles: Handles,
    // `/proc/self/fd`: turns an `O_PATH` descriptor into one that can be read or written.
    descriptors: OwnedFd,
}

impl Folders {
    /// Shows `folders`, listed in the order given.
    pub fn new(folders: Vec<Folder>) -> Result<Folders, FoldersError> {
        let descriptors = rustix::fs::open("/proc/self/fd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| FoldersError::Proc { source: errno.into() })?;
        let mut shared: Vec<Shared> = Vec::with_capacity(folders.len());
        let mut roots = Vec::with_capacity(folders.len());
        for (index, folder) in folders.into_iter().enumerate() {
            let name = entry_name(&folder.name)?;
            if shared.iter().any(|other| other.name == name) {
                return Err(FoldersError::Duplicate { name: folder.name });
            }
            roots.push(root_node(index, &folder)?);
            shared.push(Shared {
                name,
                read_only: folder.read_only,
            });
        }
        Ok(Folders {
            shared,
            nodes: Nodes::new(roots, MAX_NODES),
            handles: Handles::new(MAX_HANDLES),
            descriptors,
        })
    }

    /// Refuses what would change a folder that must not change.
    fn check_writable(&self, node: &Node) -> io::Result<()> {
        match self.shared.get(node.folder) {
            Some(Shared { read_only: false, .. }) => Ok(()),
            _ => Err(Errno::ROFS.into()),
        }
    }

    /// Checks a directory and a name in it that is about to change.
    fn changed<'a>(&self, parent: u64, name: &'a CStr) -> io::Result<(std::sync::Arc<Node>, &'a CStr)> {
        let name = component(name)?;
        if parent == fuse_backend_rs::api::filesystem::ROOT_ID {
            return Err(Errno::ROFS.into());
        }
        let parent = self.nodes.get(parent)?;
        self.check_writable(&parent)?;
        Ok((parent, name))
    }

    /// Looks `name` up in `parent` and counts the lookup.
    fn look_up(&self, parent: &Node, name: &CStr) -> io::Result<Entry> {
        let (file, stat) = peek(parent, name)?;
        self.know(parent.folder, file, &stat)
    }

    /// Makes a file known to the guest and counts the lookup.
    fn know(&self, folder: usize, file: OwnedFd, stat: &Stat) -> io::Result<Entry> {
        let identity = Identity {
            folder,
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let number = self.nodes.look_up(identity, Node { file, folder, kind })?;
        Ok(entry(number, stat))
    }

    /// Opens a regular file or a directory. Of `flags` only those pass that mean the same for a server as for the
    /// program in the guest.
    fn open_node(&self, node: &Node, flags: i32) -> io::Result<File> {
        let passed = libc::O_ACCMODE | libc::O_APPEND | libc::O_TRUNC | libc::O_SYNC | libc::O_DSYNC;
        let kind = match node.kind {
            FileType::RegularFile => OFlags::empty(),
            FileType::Directory => OFlags::DIRECTORY,
            // A FIFO would block, a device would act.
            _ => return Err(Errno::NXIO.into()),
        };
        let flags = OFlags::from_bits_retain((flags & passed) as u32) | kind;
        if (flags & OFlags::ACCMODE) != OFlags::RDONLY || flags.contains(OFlags::TRUNC) {
            self.check_writable(node)?;
        }
        // O_NONBLOCK: a lease that someone on the host holds must not stop the device.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.descriptors, own_name(&node.file), flags, Mode::empty())?;
        Ok(File::from(file))
    }
}

/// The name of a descriptor in `/proc/self/fd`.
fn own_name(file: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    file.as_raw_fd().to_string()
}

/// Takes hold of `name` in `parent` without opening it.
fn peek(parent: &Node, name: &CStr) -> io::Result<(OwnedFd, Stat)> {
    if parent.kind != FileType::Directory {
        return Err(Errno::NOTDIR.into());
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent.file, component(name)?, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    Ok((file, stat))
}

fn entry(number: u64, stat: &Stat) -> Entry {
    Entry {
        inode: number,
        attr: attributes::of_file(stat),
        attr_timeout: TIMEOUT,
        entry_timeout: TIMEOUT,
        ..Entry::default()
    }
}

fn root_node(folder: usize, spec: &Folder) -> Result<(Identity, Node), FoldersError> {
    let failed = |errno: Errno| FoldersError::Root {
        name: spec.name.clone(),
        source: errno.into(),
    };
    let stat = rustix::fs::fstat(spec.root.as_fd()).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Err(FoldersError::Kind {
            name: spec.name.clone(),
        });
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&spec.root));
    let file = rustix::fs::openat(CWD, own, flags, Mode::empty()).map_err(failed)?;
    let identity = Identity {
        folder,
        device: stat.st_dev,
        inode: stat.st_ino,
    };
    Ok((identity, Node { file, folder, kind }))
}

#[cfg(test)]
mod tests;
