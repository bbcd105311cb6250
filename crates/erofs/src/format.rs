//! The numbers and records of the disk format (the kernel's fs/erofs/erofs_fs.h). All little endian.

/// Base-2 logarithm of the block size.
pub(crate) const BLOCK_BITS: u8 = 12;
/// The block size in bytes.
pub(crate) const BLOCK: usize = 1 << BLOCK_BITS;
/// `BLOCK` for arithmetic on file offsets.
pub(crate) const BLOCK_U64: u64 = BLOCK as u64;
/// Where the superblock begins, in bytes from the start of the image.
pub(crate) const SUPERBLOCK_OFFSET: usize = 1024;
/// The superblock's size without extension slots.
pub(crate) const SUPERBLOCK_SIZE: usize = 128;
/// `EROFS_SUPER_MAGIC_V1`.
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
/// The superblock carries a CRC32C.
pub(crate) const COMPAT_SB_CHECKSUM: u32 = 1;
/// Extended inodes carry modification, not change, times.
pub(crate) const COMPAT_MTIME: u32 = 2;
/// An inode number (nid) counts slots of this many bytes from the start of the metadata area.
pub(crate) const SLOT: usize = 32;
/// Size of a compact inode.
pub(crate) const COMPACT_INODE: usize = 32;
/// Size of an extended inode.
pub(crate) const EXTENDED_INODE: usize = 64;
/// Size of a directory entry without its name.
pub(crate) const DIRENT: usize = 12;

/// How an inode's data is found (`EROFS_INODE_*`). Compressed and chunked layouts are not used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLayout {
    /// All of it in consecutive blocks.
    FlatPlain,
    /// Whole blocks in consecutive blocks, the rest right after the inode and its attributes.
    FlatInline,
}

impl DataLayout {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::FlatPlain => 0,
            Self::FlatInline => 2,
        }
    }

    pub(crate) fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::FlatPlain),
            2 => Some(Self::FlatInline),
            _ => None,
        }
    }
}

/// `struct erofs_super_block`, the fields that an uncompressed image uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SuperblockRecord {
    pub(crate) root_nid: u16,
    pub(crate) inodes: u64,
    pub(crate) build_seconds: u64,
    pub(crate) build_nanoseconds: u32,
    pub(crate) blocks: u32,
    pub(crate) meta_blkaddr: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) volume_name: [u8; 16],
}

impl SuperblockRecord {
    /// Block 0 of the image: zeros, then the superblock with its checksum.
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let sb = &mut block[SUPERBLOCK_OFFSET..];
        put32(sb, 0, MAGIC);
        put32(sb, 8, COMPAT_SB_CHECKSUM | COMPAT_MTIME);
        sb[12] = BLOCK_BITS;
        put16(sb, 14, self.root_nid);
        put64(sb, 16, self.inodes);
        put64(sb, 24, self.build_seconds);
        put32(sb, 32, self.build_nanoseconds);
        put32(sb, 36, self.blocks);
        put32(sb, 40, self.meta_blkaddr);
        sb[48..64].copy_from_slice(&self.uuid);
        sb[64..80].copy_from_slice(&self.volume_name);
        let checksum = superblock_checksum(sb);
        put32(sb, 4, checksum);
        block
    }
}

/// The checksum over the superblock to the end of its block, whose own field must be zero: CRC32C with
/// all bits set before and, unlike the usual form, no inversion after.
pub(crate) fn superblock_checksum(superblock: &[u8]) -> u32 {
    !crc32c::crc32c(superblock)
}

/// `struct erofs_inode_extended`.
#[derive(Debug, Clone)]
pub(crate) struct InodeRecord {
    pub(crate) layout: DataLayout,
    /// Bytes of extended attributes that follow the inode, a multiple of 4.
    pub(crate) xattr_size: usize,
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// The first block of data, or the device number.
    pub(crate) address: u32,
    /// A number for 32-bit `stat`, unique in the image.
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nanoseconds: u32,
    pub(crate) links: u32,
}

impl InodeRecord {
    pub(crate) fn encode(&self) -> [u8; EXTENDED_INODE] {
        let mut bytes = [0; EXTENDED_INODE];
        put16(&mut bytes, 0, 1 | (self.layout.code() << 1));
        put16(&mut bytes, 2, crate::xattr::size_to_count(self.xattr_size));
        put16(&mut bytes, 4, self.mode);
        put64(&mut bytes, 8, self.size);
        put32(&mut bytes, 16, self.address);
        put32(&mut bytes, 20, self.number);
        put32(&mut bytes, 24, self.uid);
        put32(&mut bytes, 28, self.gid);
        put64(&mut bytes, 32, self.mtime.cast_unsigned());
        put32(&mut bytes, 40, self.mtime_nanoseconds);
        put32(&mut bytes, 44, self.links);
        bytes
    }
}

pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Reads at a constant offset of a record whose length the caller has checked.
pub(crate) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Like [`get16`].
pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from(get16(bytes, at)) | u32::from(get16(bytes, at + 2)) << 16
}

/// Like [`get16`].
pub(crate) fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from(get32(bytes, at)) | u64::from(get32(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c_without_the_final_inversion() {
        // The check value of CRC-32C over "123456789" is 0xe3069283 with the inversion.
        assert_eq!(superblock_checksum(b"123456789"), !0xe306_9283);
    }

    #[test]
    fn numbers_are_little_endian() {
        let mut bytes = [0; 16];
        put64(&mut bytes, 3, 0x0102_0304_0506_0708);
        assert_eq!(bytes[3..11], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(get64(&bytes, 3), 0x0102_0304_0506_0708);
    }
}
