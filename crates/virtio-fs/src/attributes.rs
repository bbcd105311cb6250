//! File attributes in the shape that the FUSE protocol carries.

use fuse_backend_rs::abi::fuse_abi::Attr;
use rustix::fs::{Stat, StatVfs};

/// Size of a block in `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// Preferred size of a transfer, in bytes.
pub(crate) const IO_SIZE: u32 = 4096;

/// Attributes of an entry that no host file stands behind, or whose host file is nobody's business: owned by root,
/// never changed.
pub(crate) fn synthetic(node: u64, mode: u32, links: u32, size: u64) -> libc::stat64 {
    Attr {
        ino: node,
        size,
        blocks: size.div_ceil(BLOCK),
        mode,
        nlink: links,
        blksize: IO_SIZE,
        ..Attr::default()
    }
    .into()
}

/// The attributes of a host file. Device numbers of special files pass; the number of the device that the file lies on
/// has no place in the protocol.
pub(crate) fn of_file(stat: &Stat) -> libc::stat64 {
    Attr {
        ino: stat.st_ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: stat.st_atime as u64,
        mtime: stat.st_mtime as u64,
        ctime: stat.st_ctime as u64,
        atimensec: stat.st_atime_nsec as u32,
        mtimensec: stat.st_mtime_nsec as u32,
        ctimensec: stat.st_ctime_nsec as u32,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev as u32,
        blksize: stat.st_blksize as u32,
        ..Attr::default()
    }
    .into()
}

/// Fills `space` with what `host` says about the file system of a folder.
pub(crate) fn set_space(space: &mut libc::statvfs64, host: &StatVfs) {
    space.f_bsize = host.f_bsize;
    space.f_frsize = host.f_frsize;
    space.f_blocks = host.f_blocks;
    space.f_bfree = host.f_bfree;
    space.f_bavail = host.f_bavail;
    space.f_files = host.f_files;
    space.f_ffree = host.f_ffree;
    space.f_favail = host.f_favail;
    space.f_namemax = host.f_namemax;
}
