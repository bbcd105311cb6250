//! Writing an image.

use crate::block_writer::{BlockWriter, CopyError};
use crate::format::{BLOCK, BLOCK_U64, DataLayout, InodeRecord, SuperblockRecord};
use crate::layout::{Layout, link_count};
use crate::metadata::{FileType, Metadata, Special, Timestamp};
use crate::path::EntryPath;
use crate::tree::{Body, Content, Node, NodeId, ROOT, Tree, TreeError, TreeLimits};
use crate::xattr::{self, Xattr, XattrError};
use std::io::{self, Read, Seek, Write};

/// Regular files up to this many bytes are kept in memory and written beside their inode: one block less
/// to read for each.
const MAX_INLINE_FILE: u64 = 1024;
/// All such files together take at most this many bytes of memory; later ones go to blocks of their own.
const INLINE_BUDGET: u64 = 4 << 20;
/// The longest target of a symbolic link that Linux can read (one less than `PATH_MAX`).
const MAX_SYMLINK: usize = 4095;

/// What one image may grow to. A stream that exceeds a limit is refused when it does.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files of all kinds, replaced ones included.
    pub inodes: u32,
    /// Memory for names, attributes and small files, in bytes.
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
    pub fn new(output: W, options: Options) -> Self {
        let implied = Metadata {
            mode: 0o755,
            mtime: options.build_time,
            ..Metadata::default()
        };
        let limits = &options.limits;
        let limits = TreeLimits {
            inodes: limits.inodes,
            metadata_bytes: limits.metadata_bytes,
        };
        Self {
            blocks: BlockWriter::new(output, 1),
            tree: Tree::new(implied, limits),
            options,
            inline_left: INLINE_BUDGET,
        }
    }

    /// Adds a directory, or gives an existing one (the root: `/`) new attributes.
    pub fn add_directory(&mut self, path: &[u8], metadata: Metadata) -> Result<(), WriteError> {
        let path = parse(path)?;
        let metadata = check_metadata(&path, metadata)?;
        if path.components().is_empty() {
            return Ok(self.tree.set_metadata(&path, ROOT, metadata)?);
        }
        let place = self.tree.place(&path)?;
        self.tree.insert_directory(&path, &place, Some(metadata))?;
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
            true => Content::Memory(self.read_small(&path, size, data)?),
            false => Content::Blocks(self.copy_large(&path, size, data)?),
        };
        self.tree
            .insert(&path, &place, metadata, Body::Regular { size, content })?;
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
        self.add_node(&path, metadata, Body::Symlink(target.into()))
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
    pub fn file_type(&self, path: &[u8]) -> Result<Option<FileType>, WriteError> {
        let id = self.tree.lookup(&parse(path)?)?;
        Ok(id.map(|id| self.tree.node(id).file_type()))
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
        let mut metadata = self.tree.node_mut(id).metadata.clone();
        metadata.xattrs.push(xattr);
        let metadata = check_metadata(&path, metadata)?;
        Ok(self.tree.set_metadata(&path, id, metadata)?)
    }

    /// Gives the volume another UUID than its [`Options`] have.
    pub fn set_uuid(&mut self, uuid: [u8; 16]) {
        self.options.uuid = uuid;
    }

    /// Writes directories, inodes and the superblock, and hands the output back. Nothing is synced.
    pub fn finish(mut self) -> Result<(W, Summary), WriteError> {
        let next_block = self.blocks.align().map_err(WriteError::Output)?;
        let layout = Layout::plan(&self.tree, next_block);
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
        self.write_memory_blocks(&layout).map_err(WriteError::Output)?;
        self.write_inodes(&layout).map_err(WriteError::Output)?;
        let superblock = self.superblock(&layout, blocks).encode();
        let content = self.content_size(&layout);
        let finished = self.blocks.finish(&superblock);
        let (output, checksum) = finished.map_err(WriteError::Output)?;
        let summary = Summary {
            size,
            inodes: layout.order.len() as u64,
            content,
            checksum,
        };
        Ok((output, summary))
    }

    fn content_size(&self, layout: &Layout) -> u64 {
        let size = |id: &NodeId| match &self.tree.node(*id).body {
            Body::Regular { size, .. } => *size,
            Body::Symlink(target) => target.len() as u64,
            Body::Directory(_) | Body::Special(_) => 0,
        };
        layout.order.iter().map(size).sum()
    }

    fn add_node(&mut self, path: &EntryPath<'_>, metadata: Metadata, body: Body) -> Result<(), WriteError> {
        let metadata = check_metadata(path, metadata)?;
        let place = self.tree.place(path)?;
        self.tree.insert(path, &place, metadata, body)?;
        Ok(())
    }

    fn read_small(
        &mut self,
        path: &EntryPath<'_>,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<Box<[u8]>, WriteError> {
        let mut content = Vec::with_capacity(size as usize);
        let read = data.take(size).read_to_end(&mut content);
        read.map_err(|source| WriteError::Data {
            path: path.to_string(),
            source,
        })?;
        check_length(path, size, content.len() as u64)?;
        self.inline_left -= size;
        Ok(content.into())
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
    fn write_memory_blocks(&mut self, layout: &Layout) -> io::Result<()> {
        for id in &layout.order {
            let placement = layout.placement(*id);
            if placement.memory_blocks > 0 {
                let content = layout.content(&self.tree, *id);
                let end = content.len().min(placement.memory_blocks as usize * BLOCK);
                self.blocks.write(&content[..end])?;
                self.blocks.align()?;
            }
        }
        Ok(())
    }

    fn write_inodes(&mut self, layout: &Layout) -> io::Result<()> {
        let start = layout.metadata_block * BLOCK_U64;
        for (index, id) in layout.order.iter().enumerate() {
            let placement = layout.placement(*id);
            let gap = start + placement.offset - self.blocks.position();
            self.blocks.write(&[0; BLOCK][..gap as usize])?;
            let xattrs = xattr::encode(&self.tree.node(*id).metadata.xattrs);
            let record = self.inode_record(layout, *id, xattrs.len(), index as u32 + 1);
            self.blocks.write(&record.encode())?;
            self.blocks.write(&xattrs)?;
            if placement.layout == DataLayout::FlatInline {
                let content = layout.content(&self.tree, *id);
                self.blocks
                    .write(&content[placement.memory_blocks as usize * BLOCK..])?;
            }
        }
        Ok(())
    }

    fn inode_record(&self, layout: &Layout, id: NodeId, xattr_size: usize, number: u32) -> InodeRecord {
        let Node { metadata, body, .. } = self.tree.node(id);
        let placement = layout.placement(id);
        let address = match body {
            Body::Special(special) => device_number(*special).unwrap_or(0),
            _ => placement.block as u32,
        };
        InodeRecord {
            layout: placement.layout,
            xattr_size,
            mode: self.tree.node(id).file_type().mode_bits() | (metadata.mode & 0o7777),
            size: placement.size,
            address,
            number,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime.seconds,
            mtime_nanoseconds: metadata.mtime.nanoseconds,
            links: link_count(&self.tree, id),
        }
    }

    fn superblock(&self, layout: &Layout, blocks: u32) -> SuperblockRecord {
        SuperblockRecord {
            root_nid: layout.placement(ROOT).nid() as u16,
            inodes: layout.order.len() as u64,
            build_seconds: self.options.build_time.seconds.cast_unsigned(),
            build_nanoseconds: self.options.build_time.nanoseconds,
            blocks,
            meta_blkaddr: layout.metadata_block as u32,
            uuid: self.options.uuid,
            volume_name: [0; 16],
        }
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
