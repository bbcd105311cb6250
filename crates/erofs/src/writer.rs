//! Writing an image.

use crate::block_writer::{BlockWriter, CopyError};
use crate::format::{BLOCK, BLOCK_U64, DataLayout, InodeRecord, SuperblockRecord};
use crate::layout::{Inodes, Layout, directory_blocks, size_of};
use crate::metadata::{FileType, Metadata, Special, Timestamp};
use crate::node::{Attributes, Body, Content, Node, ROOT};
use crate::path::EntryPath;
use crate::scratch::RecordId;
use crate::tree::{Tree, TreeError, TreeLimits};
use crate::xattr::{self, Xattr, XattrError};
use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// Regular files up to this many bytes are kept back and written beside their inode: one block less to read
/// for each.
const MAX_INLINE_FILE: u64 = 1024;
/// All such files together take at most this many bytes; later ones go to blocks of their own.
const INLINE_BUDGET: u64 = 4 << 20;
/// The longest target of a symbolic link that Linux can read (one less than `PATH_MAX`).
const MAX_SYMLINK: usize = 4095;

/// What one image may grow to. A stream that exceeds a limit is refused when it does.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files of all kinds, replaced ones included.
    pub inodes: u32,
    /// Room for names, attributes and small files before they are written, in bytes.
    pub metadata_bytes: u64,
    /// The image file, in bytes, holes included. The format ends at 16 TiB.
    pub image_bytes: u64,
}

impl Default for Limits {
    /// One million files, 256 MiB of metadata, an image of 64 GiB.
    fn default() -> Self {
        Self {
            inodes: 1 << 20,
            metadata_bytes: 256 << 20,
            image_bytes: 64 << 30,
        }
    }
}

/// What identifies an image; equal options and equal entries give equal bytes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// The volume's creation, and the modification time of directories that no entry described.
    pub build_time: Timestamp,
    /// Bounds.
    pub limits: Limits,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The image's length in bytes, a multiple of 4 096.
    pub size: u64,
    /// Files of all kinds in it.
    pub inodes: u64,
    /// The sizes of its regular files and the lengths of its symbolic links' targets, in bytes: what `du
    /// --apparent-size` counts, directories aside.
    pub content: u64,
    /// What [`checksum`](crate::checksum) computes of the whole image.
    pub checksum: u32,
}

/// Why an entry or the image could not be written. The writer is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The entry has no place in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An extended attribute cannot be stored.
    #[error("entry `{path}`: {source}")]
    Xattr {
        /// The entry.
        path: String,
        /// Which attribute and why.
        source: XattrError,
    },
    /// The content of a file could not be read.
    #[error("cannot read the content of `{path}`: {source}")]
    Data {
        /// The entry.
        path: String,
        /// What the source said.
        source: io::Error,
    },
    /// The content of a file ended early.
    #[error("the content of `{path}` ends after {actual} of {expected} bytes")]
    Truncated {
        /// The entry.
        path: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// A symbolic link's target is empty, too long or has a NUL byte.
    #[error(
        "symbolic link `{path}` has a target that no system call accepts ({length} bytes; 1 to {MAX_SYMLINK} without NUL are possible)"
    )]
    SymlinkTarget {
        /// The entry.
        path: String,
        /// The target's length in bytes.
        length: usize,
    },
    /// A device number does not fit.
    #[error("device `{path}` has a number beyond 12 bits major, 20 bits minor")]
    DeviceNumber {
        /// The entry.
        path: String,
    },
    /// The image would become too large.
    #[error("`{path}` makes the image larger than the {limit} bytes that are allowed")]
    ImageTooLarge {
        /// The entry, or `metadata` for what is written last.
        path: String,
        /// The limit.
        limit: u64,
    },
    /// The output failed.
    #[error("cannot write the image: {0}")]
    Output(#[source] io::Error),
}

/// Writes an image to `W`, which must be empty and at offset 0.
///
/// Entries come in any order; directories that are missing on the way to one are implied (mode 0755, owned
/// by root). A later entry replaces an earlier one of the same path, except that a directory keeps what is
/// in it when another directory takes its place. An entry beneath a symbolic link of this image lands where
/// the link leads inside the image.
pub struct Writer<W> {
    blocks: BlockWriter<W>,
    tree: Tree,
    options: Options,
    inline_left: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// An image with nothing but a root directory.
    /// The tree of its entries is held in memory.
    pub fn new(output: W, options: Options) -> Self {
        Self::start(output, options, None)
    }

    /// The same; what the tree needs beyond a few megabytes goes to `scratch`, an empty file that is of no use
    /// afterwards.
    pub fn with_scratch(output: W, options: Options, scratch: File) -> Self {
        Self::start(output, options, Some(scratch))
    }

    fn start(output: W, options: Options, scratch: Option<File>) -> Self {
        let implied = Attributes::plain(&Metadata {
            mode: 0o755,
            mtime: options.build_time,
            ..Metadata::default()
        });
        let limits = &options.limits;
        let limits = TreeLimits {
            inodes: limits.inodes,
            metadata_bytes: limits.metadata_bytes,
        };
        Self {
            blocks: BlockWriter::new(output, 1),
            tree: Tree::new(implied, limits, scratch),
            options,
            inline_left: INLINE_BUDGET,
        }
    }

    /// Adds a directory, or gives an existing one (the root: `/`) new attributes.
    pub fn add_directory(&mut self, path: &[u8], metadata: Metadata) -> Result<(), WriteError> {
        let path = parse(path)?;
        let metadata = check_metadata(&path, metadata)?;
        if path.components().is_empty() {
            return Ok(self.tree.set_metadata(&path, ROOT, &metadata)?);
        }
        let place = self.tree.place(&path)?;
        self.tree.insert_directory(&path, &place, Some(&metadata))?;
        Ok(())
    }

    /// Adds a regular file of exactly `size` bytes, which are read from `data` and written on at once.
    pub fn add_file(
        &mut self,
        path: &[u8],
        metadata: Metadata,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), WriteError> {
        let path = parse(path)?;
        let metadata = check_metadata(&path, metadata)?;
        let place = self.tree.place(&path)?;
        let content = match size <= MAX_INLINE_FILE.min(self.inline_left) {
            true => Content::Scratch(self.read_small(&path, size, data)?),
            false => Content::Blocks(self.copy_large(&path, size, data)?),
        };
        self.tree
            .insert(&path, &place, &metadata, Body::Regular { size, content })?;
        Ok(())
    }

    /// Adds a symbolic link. Its target is stored as it is.
    pub fn add_symlink(&mut self, path: &[u8], metadata: Metadata, target: &[u8]) -> Result<(), WriteError> {
        let path = parse(path)?;
        if target.is_empty() || target.len() > MAX_SYMLINK || target.contains(&0) {
            return Err(WriteError::SymlinkTarget {
                path: path.to_string(),
                length: target.len(),
            });
        }
        let body = Body::Symlink {
            length: target.len() as u32,
            target: self.tree.keep_bytes(&path, target)?,
        };
        self.add_node(&path, metadata, body)
    }

    /// Adds a device, pipe or socket.
    pub fn add_special(
        &mut self,
        path: &[u8],
        metadata: Metadata,
        special: Special,
    ) -> Result<(), WriteError> {
        let path = parse(path)?;
        if device_number(special).is_none() {
            return Err(WriteError::DeviceNumber {
                path: path.to_string(),
            });
        }
        self.add_node(&path, metadata, Body::Special(special))
    }

    /// Gives a file that was added before a further name.
    pub fn add_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), WriteError> {
        let (path, target) = (parse(path)?, parse(target)?);
        let place = self.tree.place(&path)?;
        Ok(self.tree.insert_link(&path, &place, &target)?)
    }

    /// The kind of file at `path` so far. A symbolic link at the end of the path is not followed.
    pub fn file_type(&mut self, path: &[u8]) -> Result<Option<FileType>, WriteError> {
        let id = self.tree.lookup(&parse(path)?)?;
        let node = id.map(|id| self.tree.node(id)).transpose();
        Ok(node.map_err(TreeError::from)?.map(|node| node.body.file_type()))
    }

    /// Sets one extended attribute of a file that was added before.
    pub fn set_xattr(&mut self, path: &[u8], xattr: Xattr) -> Result<(), WriteError> {
        let path = parse(path)?;
        let Some(id) = self.tree.lookup(&path)? else {
            return Err(TreeError::Missing {
                path: path.to_string(),
            }
            .into());
        };
        let mut metadata = self.metadata(id).map_err(TreeError::from)?;
        metadata.xattrs.push(xattr);
        let metadata = check_metadata(&path, metadata)?;
        Ok(self.tree.set_metadata(&path, id, &metadata)?)
    }

    /// Gives the volume another UUID than its [`Options`] have.
    pub fn set_uuid(&mut self, uuid: [u8; 16]) {
        self.options.uuid = uuid;
    }

    /// What the tree keeps of an entry.
    fn metadata(&mut self, id: RecordId) -> io::Result<Metadata> {
        let attributes = self.tree.node(id)?.attributes;
        let xattrs = xattr::decode(&self.xattrs(&attributes)?);
        Ok(Metadata {
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            xattrs: xattrs.unwrap_or_default(),
        })
    }

    /// Extended attributes as they follow the inode.
    fn xattrs(&mut self, attributes: &Attributes) -> io::Result<Vec<u8>> {
        match attributes.xattrs {
            Some(xattrs) => self.tree.scratch.bytes(xattrs),
            None => Ok(Vec::new()),
        }
    }

    /// Writes directories, inodes and the superblock, and hands the output back. Nothing is synced.
    pub fn finish(mut self) -> Result<(W, Summary), WriteError> {
        let next_block = self.blocks.align().map_err(WriteError::Output)?;
        let layout = Layout::plan(&mut self.tree, next_block).map_err(TreeError::from)?;
        let size = (layout.metadata_block * BLOCK_U64 + layout.metadata_size).next_multiple_of(BLOCK_U64);
        let limit = self.options.limits.image_bytes;
        let too_large = || WriteError::ImageTooLarge {
            path: "metadata".into(),
            limit,
        };
        let blocks = u32::try_from(size / BLOCK_U64).map_err(|_| too_large())?;
        if size > limit {
            return Err(too_large());
        }
        self.write_scratch_blocks(&layout)?;
        self.write_inodes(&layout)?;
        let root = self.tree.node(ROOT).map_err(TreeError::from)?;
        let superblock = self.superblock(&layout, &root, blocks).encode();
        let finished = self.blocks.finish(&superblock);
        let (output, checksum) = finished.map_err(WriteError::Output)?;
        let summary = Summary {
            size,
            inodes: layout.inodes,
            content: layout.content,
            checksum,
        };
        Ok((output, summary))
    }

    fn add_node(&mut self, path: &EntryPath<'_>, metadata: Metadata, body: Body) -> Result<(), WriteError> {
        let metadata = check_metadata(path, metadata)?;
        let place = self.tree.place(path)?;
        self.tree.insert(path, &place, &metadata, body)?;
        Ok(())
    }

    fn read_small(
        &mut self,
        path: &EntryPath<'_>,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<RecordId, WriteError> {
        let mut content = Vec::with_capacity(size as usize);
        let read = data.take(size).read_to_end(&mut content);
        read.map_err(|source| WriteError::Data {
            path: path.to_string(),
            source,
        })?;
        check_length(path, size, content.len() as u64)?;
        self.inline_left -= size;
        Ok(self.tree.keep_bytes(path, &content)?)
    }

    fn copy_large(
        &mut self,
        path: &EntryPath<'_>,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<u32, WriteError> {
        let limit = self.options.limits.image_bytes;
        let too_large = || WriteError::ImageTooLarge {
            path: path.to_string(),
            limit,
        };
        let block = u32::try_from(self.blocks.position() / BLOCK_U64).map_err(|_| too_large())?;
        if self
            .blocks
            .position()
            .checked_add(size)
            .is_none_or(|end| end > limit)
        {
            return Err(too_large());
        }
        let copied = self.blocks.copy_from(data, size).map_err(|error| match error {
            CopyError::Input(source) => WriteError::Data {
                path: path.to_string(),
                source,
            },
            CopyError::Output(source) => WriteError::Output(source),
        })?;
        check_length(path, size, copied)?;
        self.blocks.align().map_err(WriteError::Output)?;
        Ok(block)
    }

    /// Directories, long targets and small files that do not fit beside their inode.
    fn write_scratch_blocks(&mut self, layout: &Layout) -> Result<(), WriteError> {
        let mut inodes = Inodes::default();
        while let Some(id) = inodes.next(layout, &mut self.tree).map_err(TreeError::from)? {
            let node = self.tree.node(id).map_err(TreeError::from)?;
            let blocks = node.placement.scratch_blocks as usize;
            if blocks == 0 {
                continue;
            }
            if let Body::Directory(directory) = node.body {
                self.write_directory(directory.first, blocks)?;
            } else {
                let content = self.content(&node.body).map_err(TreeError::from)?;
                let end = content.len().min(blocks * BLOCK);
                self.blocks.write(&content[..end]).map_err(WriteError::Output)?;
            }
            self.blocks.align().map_err(WriteError::Output)?;
        }
        Ok(())
    }

    /// At most `blocks` blocks of a directory's content, from `link` on.
    fn write_directory(&mut self, link: Option<RecordId>, blocks: usize) -> Result<(), WriteError> {
        let (output, mut left, mut failed) = (&mut self.blocks, blocks, None);
        let built = directory_blocks(&mut self.tree, link, |block| {
            if left > 0 && failed.is_none() {
                left -= 1;
                failed = output.write(block).err();
            }
            Ok(())
        });
        built.map_err(TreeError::from)?;
        failed.map_or(Ok(()), |error| Err(WriteError::Output(error)))
    }

    /// The content of a file that is still in the scratch; empty for one whose data is in the output already.
    fn content(&mut self, body: &Body) -> io::Result<Vec<u8>> {
        match body {
            Body::Regular {
                content: Content::Scratch(id),
                ..
            }
            | Body::Symlink { target: id, .. } => self.tree.scratch.bytes(*id),
            _ => Ok(Vec::new()),
        }
    }

    fn write_inodes(&mut self, layout: &Layout) -> Result<(), WriteError> {
        let start = layout.metadata_block * BLOCK_U64;
        let (mut inodes, mut number) = (Inodes::default(), 0);
        while let Some(id) = inodes.next(layout, &mut self.tree).map_err(TreeError::from)? {
            number += 1;
            let node = self.tree.node(id).map_err(TreeError::from)?;
            let xattrs = self.xattrs(&node.attributes).map_err(TreeError::from)?;
            let gap = start + node.placement.offset - self.blocks.position();
            let record = inode_record(&node, xattrs.len(), number).encode();
            for bytes in [&[0; BLOCK][..gap as usize], &record, &xattrs] {
                self.blocks.write(bytes).map_err(WriteError::Output)?;
            }
            if node.placement.layout != DataLayout::FlatInline {
                continue;
            }
            if let Body::Directory(directory) = node.body {
                self.write_directory(directory.tail, 1)?;
            } else {
                let content = self.content(&node.body).map_err(TreeError::from)?;
                let tail = &content[node.placement.scratch_blocks as usize * BLOCK..];
                self.blocks.write(tail).map_err(WriteError::Output)?;
            }
        }
        Ok(())
    }

    fn superblock(&self, layout: &Layout, root: &Node, blocks: u32) -> SuperblockRecord {
        SuperblockRecord {
            root_nid: root.placement.nid() as u16,
            inodes: layout.inodes,
            build_seconds: self.options.build_time.seconds.cast_unsigned(),
            build_nanoseconds: self.options.build_time.nanoseconds,
            blocks,
            meta_blkaddr: layout.metadata_block as u32,
            uuid: self.options.uuid,
            volume_name: [0; 16],
        }
    }
}

fn inode_record(node: &Node, xattr_size: usize, number: u32) -> InodeRecord {
    let Attributes {
        mode,
        uid,
        gid,
        mtime,
        ..
    } = node.attributes;
    let address = match node.body {
        Body::Special(special) => device_number(special).unwrap_or(0),
        _ => node.placement.block,
    };
    InodeRecord {
        layout: node.placement.layout,
        xattr_size,
        mode: node.body.file_type().mode_bits() | (mode & 0o7777),
        size: size_of(&node.body),
        address,
        number,
        uid,
        gid,
        mtime: mtime.seconds,
        mtime_nanoseconds: mtime.nanoseconds,
        links: node.links,
    }
}

fn parse(path: &[u8]) -> Result<EntryPath<'_>, TreeError> {
    Ok(EntryPath::parse(path)?)
}

fn check_metadata(path: &EntryPath<'_>, mut metadata: Metadata) -> Result<Metadata, WriteError> {
    xattr::normalise(&mut metadata.xattrs).map_err(|source| WriteError::Xattr {
        path: path.to_string(),
        source,
    })?;
    metadata.mtime.nanoseconds = metadata.mtime.nanoseconds.min(999_999_999);
    Ok(metadata)
}

fn check_length(path: &EntryPath<'_>, expected: u64, actual: u64) -> Result<(), WriteError> {
    match actual == expected {
        true => Ok(()),
        false => Err(WriteError::Truncated {
            path: path.to_string(),
            expected,
            actual,
        }),
    }
}

/// The number on disk; 0 for what has none, `None` for one that does not fit.
fn device_number(special: Special) -> Option<u32> {
    match special {
        Special::CharDevice(device) | Special::BlockDevice(device) => device.encode(),
        Special::Fifo | Special::Socket => Some(0),
    }
}
