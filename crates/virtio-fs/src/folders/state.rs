//! What a guest knows of [`Folders`], saved as paths below their roots and found again from there.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::nodes::{Identity, Node, Nodes};
use super::{Folders, peek};

/// Flags that act once, when the file was opened for the first time.
const ONCE: i32 = libc::O_TRUNC | libc::O_CREAT | libc::O_EXCL;

/// What a guest looked up and opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FoldersState {
    /// The number that the next new node gets.
    pub next_node: u64,
    /// The nodes, without the roots of folders.
    pub nodes: Vec<NodeState>,
    /// The open files and directories.
    pub handles: Vec<HandleState>,
}

/// One node that a guest looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeState {
    /// Its number.
    pub number: u64,
    /// How often it was looked up.
    pub lookups: u64,
    /// The index of its folder.
    pub folder: usize,
    /// Its path below the folder's root, as bytes; `None` when it has no name any more.
    pub path: Option<Vec<u8>>,
}

/// One open file or directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HandleState {
    /// Its number.
    pub number: u64,
    /// The node it belongs to.
    pub node: u64,
    /// The flags it was opened with, as in open(2).
    pub flags: u32,
}

impl Folders {
    /// What the guest knows. Files that were deleted but are still open cannot be found again, and are stale after a
    /// restore.
    pub fn save(&self) -> FoldersState {
        let nodes = self
            .nodes
            .known()
            .into_iter()
            .map(|(number, lookups, node)| NodeState {
                number,
                lookups,
                folder: node.folder,
                path: self.path_below_root(&node).ok().flatten(),
            });
        let handles = self
            .handles
            .known()
            .into_iter()
            .map(|(number, node, flags)| HandleState { number, node, flags });
        FoldersState {
            next_node: self.nodes.next(),
            nodes: nodes.collect(),
            handles: handles.collect(),
        }
    }

    /// Takes over what [`save`](Self::save) returned, looking every file up anew below its root. What is gone stays
    /// unknown: the guest gets `ESTALE` for it, or `EBADF` where it was open.
    pub fn restore(&self, state: FoldersState) {
        self.handles.clear();
        self.nodes.clear();
        self.nodes.skip_to(state.next_node);
        for node in state.nodes {
            if let Ok((identity, found)) = self.find(&node) {
                self.nodes.put_back(node.number, node.lookups, identity, found);
            }
        }
        for handle in state.handles {
            let flags = handle.flags as i32 & !ONCE;
            let opened = self
                .nodes
                .get(handle.node)
                .and_then(|node| self.open_node(&node, flags));
            if let Ok(file) = opened {
                // Past the limit there is nobody to tell: the guest sees EBADF.
                let _ = self
                    .handles
                    .put_back(handle.number, handle.node, handle.flags, file);
            }
        }
    }

    /// The path of a node below its folder's root, if it has one.
    fn path_below_root(&self, node: &Node) -> io::Result<Option<Vec<u8>>> {
        let root = self.host_path(&*self.nodes.get(Nodes::root(node.folder))?)?;
        let path = self.host_path(node)?;
        let linked = rustix::fs::fstat(&node.file)?.st_nlink > 0;
        let below = path.strip_prefix(&root).ok().filter(|_| linked);
        Ok(below.map(|path| path.as_os_str().as_bytes().to_owned()))
    }

    fn host_path(&self, node: &Node) -> io::Result<PathBuf> {
        let name = node.file.as_raw_fd().to_string();
        let path = rustix::fs::readlinkat(&self.descriptors, name, Vec::new())?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
    }

    fn find(&self, state: &NodeState) -> io::Result<(Identity, Node)> {
        let stale = || io::Error::from(Errno::STALE);
        if state.folder >= self.shared.len() {
            return Err(stale());
        }
        let path = state.path.as_deref().ok_or_else(stale)?;
        let mut found: Option<(Identity, Node)> = None;
        let root = self.nodes.get(Nodes::root(state.folder))?;
        for step in Path::new(OsStr::from_bytes(path)).components() {
            let Component::Normal(name) = step else {
                return Err(stale());
            };
            let name = CString::new(name.as_bytes())?;
            let parent = found.as_ref().map_or(&*root, |(_, node)| node);
            let (file, stat) = peek(parent, &name)?;
            let identity = Identity {
                folder: state.folder,
                device: stat.st_dev,
                inode: stat.st_ino,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            found = Some((
                identity,
                Node {
                    file,
                    folder: state.folder,
                    kind,
                },
            ));
        }
        found.ok_or_else(stale)
    }
}
