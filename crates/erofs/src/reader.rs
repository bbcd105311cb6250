//! Reading an image back: for tests and tools. Every offset in it is checked.

use crate::dirent;
use crate::format::{
    BLOCK, BLOCK_BITS, BLOCK_U64, COMPACT_INODE, COMPAT_SB_CHECKSUM, DataLayout, EXTENDED_INODE, MAGIC, SLOT,
    SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, get16, get32, get64, put32, superblock_checksum,
};
use crate::metadata::{Device, FileType, Metadata, Timestamp};
use crate::path::{EntryPath, PathError};
use crate::xattr::{self, Xattr};
use std::io::{self, Read, Seek, SeekFrom};

/// Directories and symbolic links larger than this are taken for damage.
const MAX_IN_MEMORY: u64 = 256 << 20;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input failed, or ended where the image says there is more.
    #[error("cannot read {length} bytes at {offset}: {source}")]
    Input {
        /// Where it was tried to read, in bytes.
        offset: u64,
        /// How much.
        length: usize,
        /// What the input said.
        source: io::Error,
    },
    /// No EROFS image at all.
    #[error("not an EROFS image: the magic number is {0:#010x}")]
    Magic(u32),
    /// The superblock's checksum is wrong.
    #[error("the superblock is damaged: checksum {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The checksum in the superblock.
        stored: u32,
        /// The checksum of the superblock.
        computed: u32,
    },
    /// The image uses a part of the format that this reader does not know.
    #[error("the image needs {0}, which this reader does not have")]
    Unsupported(String),
    /// Something contradicts itself.
    #[error("inode {nid} is damaged: {what}")]
    Damaged {
        /// The inode's number.
        nid: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The path cannot name an entry.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// What the superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// The volume's creation.
    pub build_time: Timestamp,
    /// Files of all kinds.
    pub inodes: u64,
    /// Blocks of 4 096 bytes.
    pub blocks: u32,
    root_nid: u64,
    metadata_block: u32,
}

impl Superblock {
    /// The image's length in bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_U64
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its number: its place in the metadata area in units of 32 bytes.
    pub nid: u64,
    /// What kind of file it is.
    pub file_type: FileType,
    /// Owner, permissions, time and attributes.
    pub metadata: Metadata,
    /// Size of its content in bytes.
    pub size: u64,
    /// Names that lead to it.
    pub links: u32,
    /// The device number of a character or block device.
    pub device: Option<Device>,
    /// Whether the end of its data lies beside the inode.
    pub inline: bool,
    address: u32,
    tail_offset: u64,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode that it leads to.
    pub nid: u64,
    /// The kind of file, as the directory says.
    pub file_type: FileType,
}

/// Reads an image from `R`.
pub struct Reader<R> {
    input: R,
    superblock: Superblock,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads and checks the superblock.
    pub fn open(mut input: R) -> Result<Self, ReadError> {
        let mut block = [0; BLOCK];
        read_exact_at(&mut input, 0, &mut block)?;
        let superblock = decode_superblock(&mut block[SUPERBLOCK_OFFSET..])?;
        Ok(Self { input, superblock })
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The root directory.
    pub fn root(&mut self) -> Result<Inode, ReadError> {
        self.inode(self.superblock.root_nid)
    }

    /// The inode number `nid`.
    pub fn inode(&mut self, nid: u64) -> Result<Inode, ReadError> {
        let damaged = |what| ReadError::Damaged { nid, what };
        let start = u64::from(self.superblock.metadata_block) * BLOCK_U64;
        let offset = nid
            .checked_mul(SLOT as u64)
            .and_then(|offset| offset.checked_add(start));
        let offset = offset
            .filter(|o| *o < self.superblock.size())
            .ok_or_else(|| damaged("its number is too large"))?;
        let mut bytes = [0; EXTENDED_INODE];
        self.read_at(offset, &mut bytes[..COMPACT_INODE])?;
        let format = get16(&bytes, 0);
        let layout = DataLayout::from_code(format >> 1)
            .ok_or_else(|| ReadError::Unsupported(format!("data layout {}", format >> 1)))?;
        let extended = format & 1 == 1;
        if extended {
            self.read_at(offset, &mut bytes)?;
        }
        let mode = get16(&bytes, 4);
        let file_type = FileType::from_mode(mode).ok_or_else(|| damaged("its mode has no file type"))?;
        let inode_size = if extended { EXTENDED_INODE } else { COMPACT_INODE };
        let xattr_size = xattr::count_to_size(get16(&bytes, 2));
        let xattr_offset = offset + inode_size as u64;
        let mut xattrs = vec![0; xattr_size];
        self.read_at(xattr_offset, &mut xattrs)?;
        let (size, uid, gid, mtime, links) = match extended {
            true => {
                let mtime = Timestamp {
                    seconds: get64(&bytes, 32).cast_signed(),
                    nanoseconds: get32(&bytes, 40),
                };
                (
                    get64(&bytes, 8),
                    get32(&bytes, 24),
                    get32(&bytes, 28),
                    mtime,
                    get32(&bytes, 44),
                )
            }
            false => {
                let (uid, gid) = (get16(&bytes, 24).into(), get16(&bytes, 26).into());
                (
                    get32(&bytes, 8).into(),
                    uid,
                    gid,
                    self.superblock.build_time,
                    get16(&bytes, 6).into(),
                )
            }
        };
        let address = get32(&bytes, 16);
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        let xattrs = xattr::decode(&xattrs).ok_or_else(|| damaged("its extended attributes"))?;
        let inode = Inode {
            nid,
            file_type,
            metadata: Metadata {
                mode: mode & 0o7777,
                uid,
                gid,
                mtime,
                xattrs,
            },
            size,
            links,
            device: is_device.then(|| Device::decode(address)),
            inline: layout == DataLayout::FlatInline,
            address,
            tail_offset: xattr_offset + xattr_size as u64,
        };
        self.check_data(&inode)?;
        Ok(inode)
    }

    /// The names in `directory` without `.` and `..`, which are checked to be there.
    pub fn read_dir(&mut self, directory: &Inode) -> Result<Vec<DirEntry>, ReadError> {
        let damaged = |what| ReadError::Damaged {
            nid: directory.nid,
            what,
        };
        if directory.file_type != FileType::Directory {
            return Err(damaged("it is not a directory"));
        }
        let content = self.read(directory)?;
        let mut entries: Vec<DirEntry> = Vec::new();
        for block in content.chunks(BLOCK) {
            let block = dirent::decode_block(block).ok_or_else(|| damaged("its directory entries"))?;
            entries.extend(block.into_iter().map(|entry| DirEntry {
                name: entry.name.to_vec(),
                nid: entry.nid,
                file_type: entry.file_type,
            }));
        }
        if !entries.is_sorted_by(|a, b| a.name < b.name) {
            return Err(damaged("its names are not in order"));
        }
        let all = entries.len();
        entries.retain(|entry| entry.name != b"." && entry.name != b"..");
        match all - entries.len() {
            2 => Ok(entries),
            _ => Err(damaged("`.` or `..` is missing")),
        }
    }

    /// The file at `path`; no symbolic link is followed.
    pub fn lookup(&mut self, path: &[u8]) -> Result<Option<Inode>, ReadError> {
        let mut inode = self.root()?;
        for component in EntryPath::parse(path)?.components() {
            if inode.file_type != FileType::Directory {
                return Ok(None);
            }
            let entries = self.read_dir(&inode)?;
            match entries.binary_search_by(|entry| entry.name.as_slice().cmp(component)) {
                Ok(index) => inode = self.inode(entries[index].nid)?,
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(inode))
    }

    /// The whole content of a directory, a symbolic link or a small file (up to 256 MiB).
    pub fn read(&mut self, inode: &Inode) -> Result<Vec<u8>, ReadError> {
        if inode.size > MAX_IN_MEMORY {
            return Err(ReadError::Damaged {
                nid: inode.nid,
                what: "it is too large to be read at once",
            });
        }
        let mut content = vec![0; inode.size as usize];
        let mut done = 0;
        while done < content.len() {
            done += self.read_some(inode, done as u64, &mut content[done..])?;
        }
        Ok(content)
    }

    /// The content of a file as a stream.
    pub fn file<'a>(&'a mut self, inode: &'a Inode) -> FileReader<'a, R> {
        FileReader {
            reader: self,
            inode,
            offset: 0,
        }
    }

    /// The value of one extended attribute.
    pub fn xattr<'a>(&self, inode: &'a Inode, name: &[u8]) -> Option<&'a Xattr> {
        inode.metadata.xattrs.iter().find(|xattr| *xattr.name == *name)
    }

    /// Reads from a place in a file: at least one byte, unless `offset` is at or behind the end or `into` is empty.
    pub fn read_some(&mut self, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        let blocks_end = if inode.inline {
            inode.size & !(BLOCK_U64 - 1)
        } else {
            inode.size
        };
        let (start, end) = match offset < blocks_end {
            true => (u64::from(inode.address) * BLOCK_U64 + offset, blocks_end),
            false => (inode.tail_offset + (offset - blocks_end), inode.size),
        };
        let length = into
            .len()
            .min(usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX));
        self.read_at(start, &mut into[..length])?;
        Ok(length)
    }

    /// Data lies within the image, inline data within one block.
    fn check_data(&self, inode: &Inode) -> Result<(), ReadError> {
        let damaged = |what| Err(ReadError::Damaged { nid: inode.nid, what });
        let tail = if inode.inline { inode.size % BLOCK_U64 } else { 0 };
        if tail > 0 && inode.tail_offset % BLOCK_U64 + tail > BLOCK_U64 {
            return damaged("its inline data crosses a block");
        }
        let start = u64::from(inode.address) * BLOCK_U64;
        if inode.device.is_none()
            && inode.size > tail
            && inode.size - tail > self.superblock.size().saturating_sub(start)
        {
            return damaged("its data lies beyond the image");
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        read_exact_at(&mut self.input, offset, into)
    }
}

/// A file's content; see [`Reader::file`].
pub struct FileReader<'a, R> {
    reader: &'a mut Reader<R>,
    inode: &'a Inode,
    offset: u64,
}

impl<R: Read + Seek> Read for FileReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self
            .reader
            .read_some(self.inode, self.offset, into)
            .map_err(io::Error::other)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn decode_superblock(bytes: &mut [u8]) -> Result<Superblock, ReadError> {
    if get32(bytes, 0) != MAGIC {
        return Err(ReadError::Magic(get32(bytes, 0)));
    }
    if bytes[12] != BLOCK_BITS {
        return Err(ReadError::Unsupported(format!("blocks of 2^{} bytes", bytes[12])));
    }
    if get32(bytes, 8) & COMPAT_SB_CHECKSUM != 0 {
        let stored = get32(bytes, 4);
        put32(bytes, 4, 0);
        let computed = superblock_checksum(bytes);
        if stored != computed {
            return Err(ReadError::Checksum { stored, computed });
        }
    }
    match get32(bytes, 80) {
        0 => {}
        features => return Err(ReadError::Unsupported(format!("features {features:#x}"))),
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&bytes[48..64]);
    debug_assert!(bytes.len() >= SUPERBLOCK_SIZE);
    Ok(Superblock {
        uuid,
        build_time: Timestamp {
            seconds: get64(bytes, 24).cast_signed(),
            nanoseconds: get32(bytes, 32),
        },
        inodes: get64(bytes, 16),
        blocks: get32(bytes, 36),
        root_nid: get16(bytes, 14).into(),
        metadata_block: get32(bytes, 40),
    })
}

fn read_exact_at(input: &mut (impl Read + Seek), offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
    let length = into.len();
    input
        .seek(SeekFrom::Start(offset))
        .and_then(|_| input.read_exact(into))
        .map_err(|source| ReadError::Input {
            offset,
            length,
            source,
        })
}
