//! What sources hold, as one digest.

use std::collections::HashMap;

use image_store::{Digest, Hasher};
use tar_stream::{Device, FileId};

use super::CopyError;
use super::options::{CopyOptions, Source};
use super::select::Selected;
use super::visit::{Visit, visit};
use crate::file_tree::NodeKind;

/// Changes with what is hashed, so that older caches are not taken for newer ones.
const VERSION: &[u8] = b"hull copy 1";

/// A digest that is computed file by file. Each part that may be of any length is hashed with its length before it.
pub(super) struct SourceDigest {
    hasher: Hasher,
    /// The number of each file that has several names.
    linked: HashMap<FileId, u64>,
}

impl Default for SourceDigest {
    fn default() -> Self {
        let mut digest = Self {
            hasher: Hasher::default(),
            linked: HashMap::new(),
        };
        digest.bytes(VERSION);
        digest
    }
}

impl SourceDigest {
    /// What follows is of another source.
    pub(super) fn begin_source(&mut self, source: &Source<'_>) {
        self.bytes(&[b'S', u8::from(source.parents), u8::from(source.unpack)]);
    }

    /// Adds all that is copied of one file that a source names.
    pub(super) fn add(
        &mut self,
        source: &Source<'_>,
        selected: &Selected,
        options: &CopyOptions<'_>,
    ) -> Result<(), CopyError> {
        self.bytes(b"N");
        // The contents of a directory are copied, whatever its name is.
        if !selected.node.is_directory() {
            self.bytes(&selected.name);
        }
        visit(source, selected, options, &mut |visited| {
            self.visited(source, visited, options)
        })
    }

    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }

    fn visited(
        &mut self,
        source: &Source<'_>,
        visited: &Visit<'_>,
        options: &CopyOptions<'_>,
    ) -> Result<(), CopyError> {
        let (node, tree) = (visited.node, source.tree);
        self.bytes(visited.path);
        self.bytes(&[kind_code(node.kind), u8::from(visited.is_way)]);
        // Nothing of the directory whose contents are copied is copied itself.
        if node.is_directory() && visited.path.is_empty() {
            return Ok(());
        }
        let attributes = options.attributes(node);
        self.number(attributes.mode.into());
        self.number(attributes.uid.into());
        self.number(attributes.gid.into());
        self.number(attributes.xattrs.len() as u64);
        for xattr in &attributes.xattrs {
            self.bytes(&xattr.name);
            self.bytes(&xattr.value);
        }
        match node.kind {
            NodeKind::Regular => {
                self.number(node.size);
                self.bytes(tree.content_digest(node, &options.token)?.as_bytes());
                let next = self.linked.len() as u64;
                let file = match node.links {
                    0 | 1 => u64::MAX,
                    _ => *self.linked.entry(node.id).or_insert(next),
                };
                self.number(file);
            }
            NodeKind::Symlink => self.bytes(&tree.link_target(node)?),
            NodeKind::CharDevice(Device { major, minor })
            | NodeKind::BlockDevice(Device { major, minor }) => {
                self.number(major.into());
                self.number(minor.into());
            }
            NodeKind::Directory | NodeKind::Fifo | NodeKind::Socket => {}
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }
}

fn kind_code(kind: NodeKind) -> u8 {
    match kind {
        NodeKind::Regular => b'f',
        NodeKind::Directory => b'd',
        NodeKind::Symlink => b'l',
        NodeKind::CharDevice(_) => b'c',
        NodeKind::BlockDevice(_) => b'b',
        NodeKind::Fifo => b'p',
        NodeKind::Socket => b's',
    }
}
