//! The layers of a stage as one tree, as overlayfs shows them in the guest (kernel Documentation/filesystems/overlayfs.rst).

use std::collections::BTreeMap;
use std::sync::Arc;

use erofs::{FileType, Inode};
use image_store::Digest;
use tar_stream::{Device, FileId, Timestamp, Xattr};
use tokio_util::sync::CancellationToken;

use crate::file_tree::{Attributes, Content, FileTree, Node, NodeKind, Place, TreeError};
use crate::layer::Layer;

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Attributes of overlayfs itself, which no user ever sees.
const TRUSTED: &[u8] = b"trusted.";

/// A stack of layers. One with a layer more is made without reading any.
#[derive(Debug, Clone, Default)]
pub struct LayerTree {
    /// The lowest first.
    layers: Vec<Arc<Layer>>,
}

impl LayerTree {
    /// The layers, the lowest first. None is the empty tree (`FROM scratch`).
    pub fn new(layers: Vec<Arc<Layer>>) -> Self {
        Self { layers }
    }

    /// The same with one layer on top.
    pub fn with(&self, layer: Arc<Layer>) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// A file of which these are the inodes in the layers that have it, the uppermost first.
    fn node(&self, found: Vec<(u32, Inode)>) -> Option<Node> {
        let place: Place = found.iter().map(|(layer, inode)| (*layer, inode.nid)).collect();
        let (layer, inode) = found.into_iter().next()?;
        let number = |device: Option<erofs::Device>| Device {
            major: device.map_or(0, |device| device.major),
            minor: device.map_or(0, |device| device.minor),
        };
        let kind = match inode.file_type {
            FileType::Regular => NodeKind::Regular,
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink,
            FileType::CharDevice => NodeKind::CharDevice(number(inode.device)),
            FileType::BlockDevice => NodeKind::BlockDevice(number(inode.device)),
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
        };
        let seen = inode
            .metadata
            .xattrs
            .iter()
            .filter(|xattr| !xattr.name.starts_with(TRUSTED));
        let mut xattrs: Vec<Xattr> = seen
            .map(|xattr| Xattr {
                name: xattr.name.to_vec(),
                value: xattr.value.to_vec(),
            })
            .collect();
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Node {
            kind,
            attributes: Attributes {
                mode: inode.metadata.mode,
                uid: inode.metadata.uid,
                gid: inode.metadata.gid,
                mtime: Timestamp {
                    seconds: inode.metadata.mtime.seconds,
                    nanoseconds: inode.metadata.mtime.nanoseconds,
                },
                xattrs,
            },
            size: inode.size,
            links: inode.links,
            id: FileId {
                device: self.layers.get(layer as usize)?.serial,
                inode: inode.nid,
            },
            place,
        })
    }

    fn layer(&self, index: u32) -> Option<&Arc<Layer>> {
        self.layers.get(index as usize)
    }

    /// Where the content of a file that is no directory lies.
    fn content_place<'a>(&'a self, node: &Node) -> Result<(&'a Arc<Layer>, u64), TreeError> {
        let place = node.place.first();
        let found = place.and_then(|(layer, nid)| Some((self.layer(*layer)?, *nid)));
        found.ok_or_else(|| TreeError::Content {
            path: "a file".into(),
            source: std::io::Error::other("it is of another tree"),
        })
    }
}

impl FileTree for LayerTree {
    fn root(&self) -> Result<Node, TreeError> {
        let mut found = Vec::new();
        // The kernel does not ask the root of a layer whether it is opaque.
        for (index, layer) in self.layers.iter().enumerate().rev() {
            found.push((index as u32, layer.root()?));
        }
        Ok(self.node(found).unwrap_or_else(|| Node {
            kind: NodeKind::Directory,
            attributes: Attributes::of_new_directory(Timestamp::default()),
            size: 0,
            links: 2,
            id: FileId { device: 0, inode: 0 },
            place: Vec::new(),
        }))
    }

    fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, TreeError> {
        if !directory.is_directory() {
            return Ok(None);
        }
        let mut found: Vec<(u32, Inode)> = Vec::new();
        for (index, nid) in &directory.place {
            let Some(layer) = self.layer(*index) else { continue };
            let entries = layer.directory(*nid)?;
            let Ok(at) = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)) else {
                continue;
            };
            let inode = layer.inode(entries[at].nid)?;
            if is_whiteout(&inode) {
                break;
            }
            let is_directory = inode.file_type == FileType::Directory;
            // What is no directory is hidden by one above it, and hides what is below it.
            if !is_directory && !found.is_empty() {
                break;
            }
            let is_last = !is_directory || is_opaque(&inode);
            found.push((*index, inode));
            if is_last {
                break;
            }
        }
        Ok(self.node(found))
    }

    fn names(&self, directory: &Node) -> Result<Vec<Vec<u8>>, TreeError> {
        let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for (index, nid) in directory.place.iter().filter(|_| directory.is_directory()) {
            let Some(layer) = self.layer(*index) else { continue };
            for entry in layer.directory(*nid)?.iter() {
                if !names.contains_key(&entry.name) {
                    let is_there =
                        entry.file_type != FileType::CharDevice || !is_whiteout(&layer.inode(entry.nid)?);
                    names.insert(entry.name.clone(), is_there);
                }
            }
        }
        Ok(names
            .into_iter()
            .filter_map(|(name, is_there)| is_there.then_some(name))
            .collect())
    }

    fn link_target(&self, link: &Node) -> Result<Vec<u8>, TreeError> {
        let (layer, nid) = self.content_place(link)?;
        layer.link_target(nid)
    }

    fn open(&self, file: &Node) -> Result<Box<dyn Content + '_>, TreeError> {
        let (layer, nid) = self.content_place(file)?;
        Ok(Box::new(layer.content(nid)?))
    }

    fn content_digest(&self, file: &Node, token: &CancellationToken) -> Result<Digest, TreeError> {
        let (layer, nid) = self.content_place(file)?;
        layer.content_digest(nid, token)
    }
}

/// A character device 0:0 says that the name does not exist (overlayfs.rst, "whiteouts and opaque directories").
fn is_whiteout(inode: &Inode) -> bool {
    let zero = erofs::Device { major: 0, minor: 0 };
    inode.file_type == FileType::CharDevice && inode.device.is_none_or(|device| device == zero)
}

fn is_opaque(inode: &Inode) -> bool {
    let opaque = inode.metadata.xattrs.iter().find(|xattr| *xattr.name == *OPAQUE);
    opaque.is_some_and(|xattr| *xattr.value == *b"y")
}
