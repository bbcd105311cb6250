//! Where everything goes: decided for the whole tree before its directories and inodes are written.

use crate::dirent::{self, DirectorySize, Dirent};
use crate::format::{BLOCK, BLOCK_U64, DataLayout, EXTENDED_INODE, SLOT};
use crate::metadata::FileType;
use crate::node::{Body, Content, Directory, Link, Node, Placement, ROOT};
use crate::scratch::{RecordId, Scratch};
use crate::sort::sort_links;
use crate::tree::Tree;
use std::io;

/// The first inode does not begin at 0: that would make inode number 0, which `readdir` callers skip.
const FIRST_INODE: u64 = 2 * SLOT as u64;

/// The plan for a whole image. What it says of a single file is in that file's node.
pub(crate) struct Layout {
    /// All directories, each before those in it, the root first.
    directories: Vec<RecordId>,
    /// The first block of the metadata area.
    pub(crate) metadata_block: u64,
    /// Bytes in the metadata area.
    pub(crate) metadata_size: u64,
    /// Files of all kinds.
    pub(crate) inodes: u64,
    /// The sizes of regular files and the lengths of symbolic links' targets, in bytes.
    pub(crate) content: u64,
}

impl Layout {
    /// Places every node that can be reached; `next_block` is the first that file data has not taken.
    pub(crate) fn plan(tree: &mut Tree, next_block: u64) -> io::Result<Self> {
        tree.close();
        let mut layout = Self {
            directories: vec![ROOT],
            metadata_block: next_block,
            metadata_size: FIRST_INODE,
            inodes: 0,
            content: 0,
        };
        let mut known = 0;
        while let Some(directory) = layout.directories.get(known).copied() {
            put_in_order(&mut tree.scratch, directory, &mut layout.directories)?;
            known += 1;
        }
        let mut inodes = Inodes::default();
        while let Some(id) = inodes.next(&layout, tree)? {
            layout.place(tree, id)?;
        }
        Ok(layout)
    }

    fn place(&mut self, tree: &mut Tree, id: RecordId) -> io::Result<()> {
        let mut node = tree.node(id)?;
        let xattr_size = match node.attributes.xattrs {
            Some(xattrs) => tree.scratch.bytes_length(xattrs)?,
            None => 0,
        };
        let (mut placement, tail) = place_data(&node.body, xattr_size, self.metadata_block);
        self.metadata_block += u64::from(placement.scratch_blocks);
        let mut offset = self.metadata_size;
        let head = EXTENDED_INODE + if tail > 0 { xattr_size + tail } else { 0 };
        if offset % BLOCK_U64 + head as u64 > BLOCK_U64 {
            offset = offset.next_multiple_of(BLOCK_U64);
        }
        placement.offset = offset;
        let end = offset + (EXTENDED_INODE + xattr_size + tail) as u64;
        self.metadata_size = end.next_multiple_of(SLOT as u64);
        self.inodes += 1;
        self.content += match node.body {
            Body::Regular { size, .. } => size,
            Body::Symlink { length, .. } => u64::from(length),
            Body::Directory(_) | Body::Special(_) => 0,
        };
        node.placement = placement;
        node.write(&mut tree.scratch, id)
    }
}

/// Nodes in the order of their inodes: the root, then each directory's files beside each other.
#[derive(Default)]
pub(crate) struct Inodes {
    /// Directories that were entered.
    entered: usize,
    started: bool,
    next: Option<RecordId>,
}

impl Inodes {
    pub(crate) fn next(&mut self, layout: &Layout, tree: &mut Tree) -> io::Result<Option<RecordId>> {
        if !std::mem::replace(&mut self.started, true) {
            return Ok(Some(ROOT));
        }
        loop {
            let Some(id) = self.next else {
                let Some(directory) = layout.directories.get(self.entered) else {
                    return Ok(None);
                };
                self.entered += 1;
                self.next = first_link(&tree.node(*directory)?);
                continue;
            };
            let link = Link::read(&mut tree.scratch, id)?;
            self.next = link.next;
            if link.first {
                return Ok(Some(link.node));
            }
        }
    }
}

fn first_link(node: &Node) -> Option<RecordId> {
    match node.body {
        Body::Directory(directory) => directory.first,
        _ => None,
    }
}

/// Sorts the names of a directory, computes its size, and chooses the inodes that stand with it. Those that are
/// directories are added to `directories`.
fn put_in_order(scratch: &mut Scratch, id: RecordId, directories: &mut Vec<RecordId>) -> io::Result<()> {
    let mut node = Node::read(scratch, id)?;
    let Body::Directory(mut directory) = node.body else {
        return Ok(());
    };
    for (name, target) in [(b".".as_slice(), id), (b"..", directory.parent)] {
        let link = Link {
            next: directory.first,
            directory: id,
            node: target,
            first: false,
            name: name.to_vec(),
        };
        directory.first = Some(link.append(scratch)?);
    }
    directory.first = sort_links(scratch, directory.first)?;

    let mut size = DirectorySize::default();
    // Its name and its `.`; each directory in it has a `..`.
    node.links = 2;
    directory.tail = directory.first;
    let mut next = directory.first;
    while let Some(link_id) = next {
        let mut link = Link::read(scratch, link_id)?;
        next = link.next;
        if size.push(&link.name) {
            directory.tail = Some(link_id);
        }
        if matches!(&*link.name, b"." | b"..") {
            continue;
        }
        let mut child = Node::read(scratch, link.node)?;
        if child.seen {
            continue;
        }
        if child.body.file_type() == FileType::Directory {
            node.links += 1;
            directories.push(link.node);
        } else if child.links > 1 {
            child.seen = true;
            child.write(scratch, link.node)?;
        }
        link.first = true;
        link.write(scratch, link_id)?;
    }
    directory.size = u32::try_from(size.bytes()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    node.body = Body::Directory(directory);
    node.write(scratch, id)
}

/// Builds the blocks of a directory's content from `link` on and hands them to `emit`, the last one unpadded.
pub(crate) fn directory_blocks(
    tree: &mut Tree,
    link: Option<RecordId>,
    mut emit: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut size = DirectorySize::default();
    let mut block: Vec<(Vec<u8>, u64, FileType)> = Vec::new();
    let mut next = link;
    while let Some(id) = next {
        let link = Link::read(&mut tree.scratch, id)?;
        next = link.next;
        if size.push(&link.name) {
            let mut content = encode(&block);
            content.resize(BLOCK, 0);
            emit(&content)?;
            block.clear();
        }
        let node = tree.node(link.node)?;
        block.push((link.name, node.placement.nid(), node.body.file_type()));
    }
    emit(&encode(&block))
}

fn encode(block: &[(Vec<u8>, u64, FileType)]) -> Vec<u8> {
    let entries: Vec<_> = block
        .iter()
        .map(|(name, nid, file_type)| Dirent {
            name,
            nid: *nid,
            file_type: *file_type,
        })
        .collect();
    dirent::encode_block(&entries)
}

/// The size of a file in bytes, as its inode says it.
pub(crate) fn size_of(body: &Body) -> u64 {
    match body {
        Body::Regular { size, .. } => *size,
        Body::Symlink { length, .. } => u64::from(*length),
        Body::Directory(Directory { size, .. }) => u64::from(*size),
        Body::Special(_) => 0,
    }
}

/// How the data of `body` is laid out, and how many of its bytes follow the inode. Inline data must not
/// cross a block (`erofs_map_blocks_flatmode`), and older kernels want a symbolic link's target in the block
/// of its inode: so inode, attributes and inline data share one block or nothing is inline.
fn place_data(body: &Body, xattr_size: usize, next_block: u64) -> (Placement, usize) {
    let placement = |layout, block, scratch_blocks| Placement {
        offset: 0,
        layout,
        block,
        scratch_blocks,
    };
    if let Body::Regular {
        content: Content::Blocks(block),
        ..
    } = body
    {
        return (placement(DataLayout::FlatPlain, *block, 0), 0);
    }
    let size = size_of(body);
    let tail = (size % BLOCK_U64) as usize;
    let inline = tail > 0 && EXTENDED_INODE + xattr_size + tail <= BLOCK;
    let (layout, blocks, tail) = match inline {
        true => (DataLayout::FlatInline, size / BLOCK_U64, tail),
        false => (DataLayout::FlatPlain, size.div_ceil(BLOCK_U64), 0),
    };
    // Both fit: what is in the scratch is below 4 GiB, and an image of 2^32 blocks or more is refused when it is planned.
    let block = if blocks == 0 { 0 } else { next_block as u32 };
    (placement(layout, block, blocks as u32), tail)
}
