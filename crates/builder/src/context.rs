//! The build context: the files that a client sent, as a tree.

mod builder;
mod error;
mod store;
mod tar;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use dockerfile::pattern::{Ignore, Walk};
use image_store::Digest;
use tar_stream::{Device, FileId, Timestamp, Xattr};
use tokio_util::sync::CancellationToken;

pub use self::builder::{ContextAttributes, ContextBuilder, ContextLimits};
pub use self::error::ContextError;
pub use self::store::{ContextStore, ContextStoreError, Room};
use self::store::{Lease, StoreShared};
pub use self::tar::{LEAST_STORED, STORED_CONTENT};
use crate::file_tree::{Attributes, Content, FileTree, Node, NodeKind, TreeError, printable};
use crate::spool::Spool;

/// A build context, or anything else that is copied from and is no stage: a downloaded file, a here-document.
///
/// All files are root's, whoever had them on the client, as with Docker. Contents lie in one temporary file without a name, or in
/// a [`ContextStore`].
#[derive(Debug)]
pub struct Context {
    serial: u64,
    entries: Vec<Entry>,
    spool: Option<Spool>,
    /// Holds what is read from the store against its eviction.
    stored: Option<(Arc<StoreShared>, Vec<Lease>)>,
}

/// A file of a context.
#[derive(Debug)]
struct Entry {
    mode: u16,
    mtime: Timestamp,
    xattrs: Box<[Xattr]>,
    links: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Directory(BTreeMap<Box<[u8]>, u32>),
    Regular {
        size: u64,
        digest: Digest,
        /// Where it begins in the spool; `None` is in the store.
        spooled: Option<u64>,
    },
    Symlink(Box<[u8]>),
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// The directory at the top.
const ROOT: u32 = 0;

impl Context {
    /// How many files of all kinds were added, the top directory aside.
    pub fn len(&self) -> usize {
        self.entries.len() - 1
    }

    /// Whether it has no file.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out what an ignore file leaves out, as the command line does with what it sends.
    pub fn ignore(&mut self, ignore: &Ignore) {
        self.ignore_in(ROOT, "", &ignore.walk());
    }

    /// Takes it out of one directory; whether something is left there.
    fn ignore_in(&mut self, directory: u32, path: &str, walk: &Walk<'_>) -> bool {
        let children = match self
            .entries
            .get_mut(directory as usize)
            .map(|entry| &mut entry.body)
        {
            Some(Body::Directory(children)) => std::mem::take(children),
            _ => return true,
        };
        let mut kept = BTreeMap::new();
        for (name, index) in children {
            // A name that is no text matches what its text would.
            let below = match path {
                "" => String::from_utf8_lossy(&name).into_owned(),
                path => format!("{path}/{}", String::from_utf8_lossy(&name)),
            };
            let is_left_out = walk.ignores(&below);
            let entry = self.entries.get(index as usize);
            let is_directory = entry.is_some_and(|entry| matches!(entry.body, Body::Directory(_)));
            let stays = match is_directory {
                true => self.ignore_in(index, &below, &walk.enter(&below)) || !is_left_out,
                false => !is_left_out,
            };
            if stays {
                kept.insert(name, index);
            }
        }
        let is_empty = kept.is_empty();
        if let Some(Body::Directory(children)) = self
            .entries
            .get_mut(directory as usize)
            .map(|entry| &mut entry.body)
        {
            *children = kept;
        }
        !is_empty
    }

    fn entry(&self, node: &Node) -> Result<&Entry, TreeError> {
        let index = node
            .place
            .first()
            .and_then(|(_, index)| usize::try_from(*index).ok());
        let entry = index.and_then(|index| self.entries.get(index));
        entry
            .filter(|_| node.id.device == self.serial)
            .ok_or_else(|| TreeError::Content {
                path: "a file".into(),
                source: io::Error::other("it is of another tree"),
            })
    }

    fn node(&self, index: u32) -> Option<Node> {
        let entry = self.entries.get(index as usize)?;
        let (kind, size) = match &entry.body {
            Body::Directory(_) => (NodeKind::Directory, 0),
            Body::Regular { size, .. } => (NodeKind::Regular, *size),
            Body::Symlink(target) => (NodeKind::Symlink, target.len() as u64),
            Body::CharDevice(device) => (NodeKind::CharDevice(*device), 0),
            Body::BlockDevice(device) => (NodeKind::BlockDevice(*device), 0),
            Body::Fifo => (NodeKind::Fifo, 0),
        };
        Some(Node {
            kind,
            attributes: Attributes {
                mode: entry.mode,
                uid: 0,
                gid: 0,
                mtime: entry.mtime,
                xattrs: entry.xattrs.to_vec(),
            },
            size,
            links: entry.links,
            id: FileId {
                device: self.serial,
                inode: index.into(),
            },
            place: vec![(0, index.into())],
        })
    }

    fn regular(&self, file: &Node) -> Result<(u64, Digest, Option<u64>), TreeError> {
        match &self.entry(file)?.body {
            Body::Regular {
                size,
                digest,
                spooled,
            } => Ok((*size, *digest, *spooled)),
            _ => Err(TreeError::Content {
                path: "a file".into(),
                source: io::Error::other("it is not a regular file"),
            }),
        }
    }
}

impl FileTree for Context {
    fn root(&self) -> Result<Node, TreeError> {
        self.node(ROOT).ok_or_else(|| TreeError::Content {
            path: "/".into(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, TreeError> {
        match &self.entry(directory)?.body {
            Body::Directory(children) => Ok(children.get(name).and_then(|index| self.node(*index))),
            _ => Ok(None),
        }
    }

    fn names(&self, directory: &Node) -> Result<Vec<Vec<u8>>, TreeError> {
        match &self.entry(directory)?.body {
            Body::Directory(children) => Ok(children.keys().map(|name| name.to_vec()).collect()),
            _ => Ok(Vec::new()),
        }
    }

    fn link_target(&self, link: &Node) -> Result<Vec<u8>, TreeError> {
        match &self.entry(link)?.body {
            Body::Symlink(target) => Ok(target.to_vec()),
            _ => Ok(Vec::new()),
        }
    }

    fn open(&self, file: &Node) -> Result<Box<dyn Content + '_>, TreeError> {
        let (size, digest, spooled) = self.regular(file)?;
        match (spooled, &self.spool, &self.stored) {
            (Some(offset), Some(spool), _) => Ok(Box::new(spool.read(offset, size))),
            (None, _, Some((store, _))) => {
                let opened = store.open(&digest, size);
                Ok(Box::new(opened.map_err(|source| TreeError::Content {
                    path: printable(digest.to_string().as_bytes()),
                    source,
                })?))
            }
            _ => Err(TreeError::Content {
                path: digest.to_string(),
                source: io::ErrorKind::NotFound.into(),
            }),
        }
    }

    fn content_digest(&self, file: &Node, _: &CancellationToken) -> Result<Digest, TreeError> {
        Ok(self.regular(file)?.1)
    }
}
