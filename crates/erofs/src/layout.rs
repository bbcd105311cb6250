//! Where everything goes: decided for the whole tree before its directories and inodes are written.

use crate::dirent::{self, DirectorySize, Dirent};
use crate::format::{BLOCK, BLOCK_U64, DataLayout, EXTENDED_INODE, SLOT};
use crate::metadata::FileType;
use crate::tree::{Body, Content, Directory, NodeId, ROOT, Tree};
use crate::xattr;
use std::borrow::Cow;
use std::collections::VecDeque;

/// The first inode does not begin at 0: that would make inode number 0, which `readdir` callers skip.
const FIRST_INODE: u64 = 2 * SLOT as u64;

/// Where one inode goes and how its data is found.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    /// Bytes from the start of the metadata area, a multiple of [`SLOT`].
    pub(crate) offset: u64,
    pub(crate) layout: DataLayout,
    /// The size of the file in bytes.
    pub(crate) size: u64,
    /// The first block of its data.
    pub(crate) block: u64,
    /// Blocks of content that is still in memory and goes before the metadata area.
    pub(crate) memory_blocks: u64,
}

impl Placement {
    pub(crate) fn nid(&self) -> u64 {
        self.offset / SLOT as u64
    }
}

/// The plan for a whole image.
pub(crate) struct Layout {
    /// Nodes in the order of their inodes: a directory's files beside each other, the root first.
    pub(crate) order: Vec<NodeId>,
    placements: Vec<Option<Placement>>,
    /// The first block of the metadata area.
    pub(crate) metadata_block: u64,
    /// Bytes in the metadata area.
    pub(crate) metadata_size: u64,
}

impl Layout {
    /// Places every node that can be reached; `next_block` is the first that file data has not taken.
    pub(crate) fn plan(tree: &Tree, mut next_block: u64) -> Self {
        let order = breadth_first(tree);
        let mut placements = vec![None; tree.capacity()];
        let mut offset = FIRST_INODE;
        for id in &order {
            let node = tree.node(*id);
            let xattr_size = xattr::encoded_size(&node.metadata.xattrs);
            let (mut placement, tail) = place_data(&node.body, xattr_size, next_block);
            next_block += placement.memory_blocks;
            let head = EXTENDED_INODE + if tail > 0 { xattr_size + tail } else { 0 };
            if offset % BLOCK_U64 + head as u64 > BLOCK_U64 {
                offset = offset.next_multiple_of(BLOCK_U64);
            }
            placement.offset = offset;
            let end = offset + (EXTENDED_INODE + xattr_size + tail) as u64;
            offset = end.next_multiple_of(SLOT as u64);
            placements[*id] = Some(placement);
        }
        Self {
            order,
            placements,
            metadata_block: next_block,
            metadata_size: offset,
        }
    }

    /// The place of a node of `order`.
    pub(crate) fn placement(&self, id: NodeId) -> &Placement {
        self.placements[id]
            .as_ref()
            .expect("every node of the order is placed")
    }

    /// The content of `id` that is still in memory: empty for a file whose data is in the output already.
    pub(crate) fn content<'t>(&self, tree: &'t Tree, id: NodeId) -> Cow<'t, [u8]> {
        match &tree.node(id).body {
            Body::Directory(directory) => Cow::Owned(self.directory_content(tree, id, directory)),
            Body::Regular {
                content: Content::Memory(bytes),
                ..
            } => Cow::Borrowed(bytes),
            Body::Symlink(target) => Cow::Borrowed(target),
            Body::Regular {
                content: Content::Blocks(_),
                ..
            }
            | Body::Special(_) => Cow::Borrowed(&[]),
        }
    }

    fn directory_content(&self, tree: &Tree, id: NodeId, directory: &Directory) -> Vec<u8> {
        let entry = |name, id| Dirent {
            name,
            nid: self.placement(id).nid(),
            file_type: tree.node(id).file_type(),
        };
        let mut entries = vec![entry(b".".as_slice(), id), entry(b"..", directory.parent)];
        entries.extend(directory.children.iter().map(|(name, child)| entry(name, *child)));
        entries.sort_by(|a, b| a.name.cmp(b.name));
        dirent::encode(&entries)
    }
}

/// The links of a node: names of a file; of a directory its name, its `.` and the `..` of each child.
pub(crate) fn link_count(tree: &Tree, id: NodeId) -> u32 {
    let node = tree.node(id);
    let Body::Directory(directory) = &node.body else {
        return node.links;
    };
    let is_directory = |child: &&NodeId| tree.node(**child).file_type() == FileType::Directory;
    2 + directory.children.values().filter(is_directory).count() as u32
}

/// All nodes that names lead to, each once.
fn breadth_first(tree: &Tree) -> Vec<NodeId> {
    let mut order = vec![ROOT];
    let mut seen = vec![false; tree.capacity()];
    let mut directories = VecDeque::from([ROOT]);
    while let Some(id) = directories.pop_front() {
        let Body::Directory(directory) = &tree.node(id).body else {
            continue;
        };
        for child in directory.children.values() {
            if !std::mem::replace(&mut seen[*child], true) {
                order.push(*child);
                if tree.node(*child).file_type() == FileType::Directory {
                    directories.push_back(*child);
                }
            }
        }
    }
    order
}

/// How the data of `body` is laid out, and how many of its bytes follow the inode. Inline data must not
/// cross a block (`erofs_map_blocks_flatmode`), and older kernels want a symbolic link's target in the block
/// of its inode: so inode, attributes and inline data share one block or nothing is inline.
fn place_data(body: &Body, xattr_size: usize, next_block: u64) -> (Placement, usize) {
    let size = match body {
        Body::Regular {
            size,
            content: Content::Blocks(block),
        } => {
            let block = u64::from(*block);
            let layout = DataLayout::FlatPlain;
            return (
                Placement {
                    offset: 0,
                    layout,
                    size: *size,
                    block,
                    memory_blocks: 0,
                },
                0,
            );
        }
        Body::Regular {
            content: Content::Memory(bytes),
            ..
        } => bytes.len(),
        Body::Symlink(target) => target.len(),
        Body::Directory(directory) => directory_size(directory),
        Body::Special(_) => 0,
    };
    let tail = size % BLOCK;
    let inline = tail > 0 && EXTENDED_INODE + xattr_size + tail <= BLOCK;
    let (layout, blocks, tail) = match inline {
        true => (DataLayout::FlatInline, size / BLOCK, tail),
        false => (DataLayout::FlatPlain, size.div_ceil(BLOCK), 0),
    };
    let block = if blocks == 0 { 0 } else { next_block };
    (
        Placement {
            offset: 0,
            layout,
            size: size as u64,
            block,
            memory_blocks: blocks as u64,
        },
        tail,
    )
}

fn directory_size(directory: &Directory) -> usize {
    let mut names: Vec<&[u8]> = vec![b".", b".."];
    names.extend(directory.children.keys().map(|name| &**name));
    names.sort_unstable();
    DirectorySize::of(names.into_iter())
}
