//! Making files: what the guest creates belongs to whom created it, with the mode that was asked for.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use fuse_backend_rs::abi::fuse_abi::CreateIn;
use fuse_backend_rs::api::filesystem::{Context, Entry};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::nodes::Node;
use super::{Folders, own_name, peek};

/// The bits of a mode that are not the kind of file.
const PERMISSIONS: u32 = 0o7777;

/// Mode of a file between its creation and the moment it has its owner.
const PRIVATE: Mode = Mode::RWXU;

impl Folders {
    pub(super) fn make_directory(
        &self,
        ctx: &Context,
        parent: &Node,
        name: &CStr,
        mode: u32,
    ) -> io::Result<Entry> {
        rustix::fs::mkdirat(&parent.file, name, PRIVATE)?;
        self.finish(ctx, parent, name, mode)
    }

    /// Regular files, FIFOs and sockets. Device nodes are refused: on the host they would be real.
    pub(super) fn make_node(
        &self,
        ctx: &Context,
        parent: &Node,
        name: &CStr,
        mode: u32,
    ) -> io::Result<Entry> {
        let kind = FileType::from_raw_mode(mode);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM.into());
        }
        rustix::fs::mknodat(&parent.file, name, kind, PRIVATE, 0)?;
        self.finish(ctx, parent, name, mode)
    }

    pub(super) fn make_symlink(
        &self,
        ctx: &Context,
        parent: &Node,
        name: &CStr,
        target: &CStr,
    ) -> io::Result<Entry> {
        rustix::fs::symlinkat(target, &parent.file, name)?;
        self.finish(ctx, parent, name, 0o777)
    }

    /// Creates and opens a regular file, or opens the one that is there.
    pub(super) fn make_file(
        &self,
        ctx: &Context,
        parent: &Node,
        name: &CStr,
        args: &CreateIn,
    ) -> io::Result<(Entry, File)> {
        let flags = args.flags as i32;
        let creation = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let entry = match rustix::fs::openat(&parent.file, name, creation, PRIVATE) {
            Ok(file) => {
                drop(file);
                self.finish(ctx, parent, name, args.mode & !(args.umask & 0o777))?
            }
            Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => self.look_up(parent, name)?,
            Err(errno) => return Err(errno.into()),
        };
        match self
            .nodes
            .get(entry.inode)
            .and_then(|node| self.open_node(&node, flags))
        {
            Ok(file) => Ok((entry, file)),
            Err(error) => {
                self.nodes.forget(entry.inode, 1);
                Err(error)
            }
        }
    }

    /// A further name for `node`, in the same folder.
    pub(super) fn make_link(&self, node: &Node, parent: &Node, name: &CStr) -> io::Result<Entry> {
        if node.folder != parent.folder {
            return Err(Errno::XDEV.into());
        }
        // Through /proc/self/fd: an empty path would take CAP_DAC_READ_SEARCH.
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(
            &self.descriptors,
            own_name(&node.file),
            &parent.file,
            name,
            follow,
        )?;
        self.look_up(parent, name)
    }

    /// Gives a file that was just made its owner and its mode.
    fn finish(&self, ctx: &Context, parent: &Node, name: &CStr, mode: u32) -> io::Result<Entry> {
        let (file, stat) = peek(parent, name)?;
        let directory = rustix::fs::fstat(&parent.file)?;
        let inherits = directory.st_mode & libc::S_ISGID != 0;
        let group = if inherits { directory.st_gid } else { ctx.gid };
        give(&file, &stat, ctx.uid, group)?;

        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Symlink {
            let inherited = if inherits && kind == FileType::Directory {
                libc::S_ISGID
            } else {
                0
            };
            self.set_mode(&file, mode & PERMISSIONS | inherited)?;
        }
        let stat = rustix::fs::fstat(&file)?;
        self.know(parent.folder, file, &stat)
    }

    /// Sets the permissions of what an `O_PATH` descriptor holds.
    pub(super) fn set_mode(&self, file: &OwnedFd, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        Ok(rustix::fs::chmodat(
            &self.descriptors,
            own_name(file),
            mode,
            AtFlags::empty(),
        )?)
    }
}

/// Makes `uid` and `gid` the owners of a new file. A process that may not do that keeps the file as its own.
fn give(file: &OwnedFd, stat: &Stat, uid: u32, gid: u32) -> io::Result<()> {
    if (stat.st_uid, stat.st_gid) == (uid, gid) {
        return Ok(());
    }
    match set_owner(file, Some(uid), Some(gid)) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && !rustix::process::geteuid().is_root() => {
            Ok(())
        }
        result => result,
    }
}

/// Sets the owner, the group or both of what an `O_PATH` descriptor holds.
pub(super) fn set_owner(file: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    // -1 means "keep" to the kernel; as an id it is invalid.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL.into());
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(rustix::fs::chownat(
        file,
        c"",
        uid,
        gid,
        AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW,
    )?)
}
