//! The FUSE operations of [`Folders`].

use std::ffi::{CStr, CString};
use std::io;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, FOPEN_IN_KILL_SUIDGID, WRITE_KILL_PRIV, stat64};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions, ROOT_ID,
    SetattrValid, ZeroCopyReader, ZeroCopyWriter,
};
use rustix::fs::{AtFlags, FallocateFlags, FileType, RenameFlags, SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

use super::create::set_owner;
use super::listing::Added;
use super::nodes::Node;
use super::{Folders, TIMEOUT};
use crate::attributes;
use crate::name::component;

type Opened = (Option<u64>, OpenOptions, Option<u32>);

/// What a file system answers that does not know better: the protocol library's own answers.
struct Unknown;

impl FileSystem for Unknown {
    type Inode = u64;
    type Handle = u64;
}

impl Folders {
    fn root_attributes(&self) -> stat64 {
        let links = 2 + self.shared.len() as u32;
        attributes::synthetic(ROOT_ID, libc::S_IFDIR | 0o555, links, 0)
    }

    fn open_file(&self, node: u64, flags: u32, kill_set_id: bool) -> io::Result<u64> {
        let held = self.nodes.get(node)?;
        let file = self.open_node(&held, flags as i32)?;
        if kill_set_id && flags as i32 & libc::O_TRUNC != 0 {
            self.kill_set_id(&held)?;
        }
        self.handles.insert(node, flags, file)
    }

    /// Takes the set-user-id bit, and the set-group-id bit of an executable, from a file that was written to. The
    /// host's kernel does not, because the process may have CAP_FSETID.
    fn kill_set_id(&self, node: &Node) -> io::Result<()> {
        let mode = rustix::fs::fstat(&node.file)?.st_mode;
        let mut kept = mode & !libc::S_ISUID;
        if mode & libc::S_IXGRP != 0 {
            kept &= !libc::S_ISGID;
        }
        if kept == mode {
            Ok(())
        } else {
            self.set_mode(&node.file, kept)
        }
    }

    fn set_size(&self, node: &Node, size: i64, kill_set_id: bool) -> io::Result<()> {
        let size = u64::try_from(size).map_err(|_| io::Error::from(Errno::INVAL))?;
        if node.kind != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        rustix::fs::ftruncate(self.open_node(node, libc::O_WRONLY)?, size)?;
        if kill_set_id {
            self.kill_set_id(node)
        } else {
            Ok(())
        }
    }
}

/// The times that a SETATTR asks for.
fn times(attr: &stat64, valid: SetattrValid) -> Timestamps {
    let time = |now: SetattrValid, given: SetattrValid, tv_sec, nanoseconds| {
        let tv_nsec = if valid.contains(now) {
            libc::UTIME_NOW
        } else if valid.contains(given) {
            nanoseconds
        } else {
            libc::UTIME_OMIT
        };
        Timespec { tv_sec, tv_nsec }
    };
    Timestamps {
        last_access: time(
            SetattrValid::ATIME_NOW,
            SetattrValid::ATIME,
            attr.st_atime,
            attr.st_atime_nsec,
        ),
        last_modification: time(
            SetattrValid::MTIME_NOW,
            SetattrValid::MTIME,
            attr.st_mtime,
            attr.st_mtime_nsec,
        ),
    }
}

impl FileSystem for Folders {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, _: FsOptions) -> io::Result<FsOptions> {
        // A new client knows nothing of what an earlier one looked up.
        self.destroy();
        Ok(FsOptions::ASYNC_READ
            | FsOptions::ATOMIC_O_TRUNC
            | FsOptions::AUTO_INVAL_DATA
            | FsOptions::BIG_WRITES
            | FsOptions::MAX_PAGES
            | FsOptions::INIT_EXT
            | FsOptions::PARALLEL_DIROPS
            | FsOptions::HANDLE_KILLPRIV_V2
            | FsOptions::DO_READDIRPLUS
            | FsOptions::READDIRPLUS_AUTO)
    }

    fn destroy(&self) {
        self.handles.clear();
        self.nodes.clear();
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        if parent == ROOT_ID {
            let name = component(name)?;
            let folder = self
                .shared
                .iter()
                .position(|shared| shared.name.as_c_str() == name);
            return self.folder_entry(folder.ok_or(Errno::NOENT)?);
        }
        self.look_up(&*self.nodes.get(parent)?, name)
    }

    fn forget(&self, _: &Context, node: u64, count: u64) {
        self.nodes.forget(node, count);
    }

    fn getattr(&self, _: &Context, node: u64, _: Option<u64>) -> io::Result<(stat64, Duration)> {
        if node == ROOT_ID {
            return Ok((self.root_attributes(), TIMEOUT));
        }
        let stat = rustix::fs::fstat(&self.nodes.get(node)?.file)?;
        Ok((attributes::of_file(&stat), TIMEOUT))
    }

    fn setattr(
        &self,
        ctx: &Context,
        node: u64,
        attr: stat64,
        _: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        if node == ROOT_ID {
            return Err(Errno::ROFS.into());
        }
        let held = self.nodes.get(node)?;
        self.check_writable(&held)?;
        if valid.intersects(SetattrValid::UID | SetattrValid::GID) {
            let uid = valid.contains(SetattrValid::UID).then_some(attr.st_uid);
            let gid = valid.contains(SetattrValid::GID).then_some(attr.st_gid);
            set_owner(&held.file, uid, gid)?;
        }
        if valid.contains(SetattrValid::SIZE) {
            self.set_size(&held, attr.st_size, valid.contains(SetattrValid::KILL_SUIDGID))?;
        }
        if valid.contains(SetattrValid::MODE) {
            self.set_mode(&held.file, attr.st_mode)?;
        }
        if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
            rustix::fs::utimensat(&held.file, c"", &times(&attr, valid), AtFlags::EMPTY_PATH)?;
        }
        self.getattr(ctx, node, None)
    }

    fn readlink(&self, _: &Context, node: u64) -> io::Result<Vec<u8>> {
        let node = self.nodes.get(node)?;
        if node.kind != FileType::Symlink {
            return Err(Errno::INVAL.into());
        }
        Ok(rustix::fs::readlinkat(&node.file, c"", Vec::new())?.into_bytes())
    }

    fn symlink(&self, ctx: &Context, target: &CStr, parent: u64, name: &CStr) -> io::Result<Entry> {
        let (parent, name) = self.changed(parent, name)?;
        self.make_symlink(ctx, &parent, name, target)
    }

    fn mknod(
        &self,
        ctx: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        _: u32,
        umask: u32,
    ) -> io::Result<Entry> {
        let (parent, name) = self.changed(parent, name)?;
        self.make_node(ctx, &parent, name, mode & !(umask & 0o777))
    }

    fn mkdir(&self, ctx: &Context, parent: u64, name: &CStr, mode: u32, umask: u32) -> io::Result<Entry> {
        let (parent, name) = self.changed(parent, name)?;
        self.make_directory(ctx, &parent, name, mode & !(umask & 0o777))
    }

    fn unlink(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        let (parent, name) = self.changed(parent, name)?;
        Ok(rustix::fs::unlinkat(&parent.file, name, AtFlags::empty())?)
    }

    fn rmdir(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        let (parent, name) = self.changed(parent, name)?;
        Ok(rustix::fs::unlinkat(&parent.file, name, AtFlags::REMOVEDIR)?)
    }

    fn rename(
        &self,
        _: &Context,
        old_parent: u64,
        old_name: &CStr,
        new_parent: u64,
        new_name: &CStr,
        flags: u32,
    ) -> io::Result<()> {
        let (old_parent, old_name) = self.changed(old_parent, old_name)?;
        let (new_parent, new_name) = self.changed(new_parent, new_name)?;
        if old_parent.folder != new_parent.folder {
            return Err(Errno::XDEV.into());
        }
        // RENAME_WHITEOUT would leave a device node behind.
        let flags = RenameFlags::from_bits_retain(flags);
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL.into());
        }
        Ok(rustix::fs::renameat_with(
            &old_parent.file,
            old_name,
            &new_parent.file,
            new_name,
            flags,
        )?)
    }

    fn link(&self, _: &Context, node: u64, new_parent: u64, new_name: &CStr) -> io::Result<Entry> {
        let (parent, name) = self.changed(new_parent, new_name)?;
        let node = self.nodes.get(node)?;
        self.make_link(&node, &parent, name)
    }

    fn open(&self, _: &Context, node: u64, flags: u32, fuse_flags: u32) -> io::Result<Opened> {
        let kill_set_id = fuse_flags & FOPEN_IN_KILL_SUIDGID != 0;
        Ok((
            Some(self.open_file(node, flags, kill_set_id)?),
            OpenOptions::empty(),
            None,
        ))
    }

    fn create(
        &self,
        ctx: &Context,
        parent: u64,
        name: &CStr,
        args: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        let (parent, name) = self.changed(parent, name)?;
        let (entry, file) = self.make_file(ctx, &parent, name, &args)?;
        match self.handles.insert(entry.inode, args.flags, file) {
            Ok(handle) => Ok((entry, Some(handle), OpenOptions::empty(), None)),
            Err(error) => {
                self.nodes.forget(entry.inode, 1);
                Err(error)
            }
        }
    }

    fn release(
        &self,
        _: &Context,
        node: u64,
        _: u32,
        handle: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> io::Result<()> {
        self.handles.remove(handle, node)
    }

    fn read(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        let handle = self.handles.get(handle, node)?;
        let count = w.available_bytes().min(size as usize);
        w.write_from(&mut handle.open().file, count, offset)
    }

    fn write(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        r: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        fuse_flags: u32,
    ) -> io::Result<usize> {
        let handle = self.handles.get(handle, node)?;
        let written = r.read_to(&mut handle.open().file, size as usize, offset)?;
        if fuse_flags & WRITE_KILL_PRIV != 0 {
            self.kill_set_id(&*self.nodes.get(node)?)?;
        }
        Ok(written)
    }

    fn fsync(&self, _: &Context, node: u64, data_only: bool, handle: u64) -> io::Result<()> {
        let handle = self.handles.get(handle, node)?;
        let file = &handle.open().file;
        if data_only {
            file.sync_data()
        } else {
            file.sync_all()
        }
    }

    fn fsyncdir(&self, ctx: &Context, node: u64, data_only: bool, handle: u64) -> io::Result<()> {
        if node == ROOT_ID {
            Ok(())
        } else {
            self.fsync(ctx, node, data_only, handle)
        }
    }

    fn fallocate(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        len: u64,
    ) -> io::Result<()> {
        self.check_writable(&*self.nodes.get(node)?)?;
        let handle = self.handles.get(handle, node)?;
        Ok(rustix::fs::fallocate(
            &handle.open().file,
            FallocateFlags::from_bits_retain(mode),
            offset,
            len,
        )?)
    }

    fn lseek(&self, _: &Context, node: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64> {
        // The guest's kernel does the other kinds itself.
        let position = match whence as i32 {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL.into()),
        };
        let handle = self.handles.get(handle, node)?;
        let mut open = handle.open();
        open.position = u64::MAX;
        Ok(rustix::fs::seek(&open.file, position)?)
    }

    fn statfs(&self, ctx: &Context, node: u64) -> io::Result<libc::statvfs64> {
        let mut space = Unknown.statfs(ctx, node)?;
        if node != ROOT_ID {
            let host = rustix::fs::fstatvfs(&self.nodes.get(node)?.file)?;
            attributes::set_space(&mut space, &host);
        }
        Ok(space)
    }

    fn opendir(&self, _: &Context, node: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        if node == ROOT_ID {
            return Ok((None, OpenOptions::empty()));
        }
        let held = self.nodes.get(node)?;
        if held.kind != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        let file = self.open_node(&held, libc::O_RDONLY)?;
        Ok((
            Some(self.handles.insert(node, libc::O_RDONLY as u32, file)?),
            OpenOptions::empty(),
        ))
    }

    fn releasedir(&self, _: &Context, node: u64, _: u32, handle: u64) -> io::Result<()> {
        if node == ROOT_ID {
            Ok(())
        } else {
            self.handles.remove(handle, node)
        }
    }

    fn readdir(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        if node == ROOT_ID {
            return self.list_root(offset, &mut |entry, _| add_entry(entry));
        }
        // An entry takes at most 4/3 of its bytes on the host.
        let batch = size as usize / 4 * 3;
        self.list(node, handle, offset, batch, &mut |entry| {
            add_entry(entry).map(Added::from)
        })
    }

    fn readdirplus(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        if node == ROOT_ID {
            return self.list_root(offset, add_entry);
        }
        let parent = self.nodes.get(node)?;
        // An entry with its attributes takes at most 20/3 of its bytes on the host.
        let batch = size as usize / 7;
        self.list(node, handle, offset, batch, &mut |directory_entry| {
            let name = CString::new(directory_entry.name)?;
            let entry = match self.look_up(&parent, &name) {
                Ok(entry) => entry,
                // Gone since it was listed.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Added::Skipped),
                Err(error) => return Err(error),
            };
            let added = add_entry(directory_entry, entry);
            if !matches!(added, Ok(1..)) {
                self.nodes.forget(entry.inode, 1);
            }
            added.map(Added::from)
        })
    }

    fn setxattr(&self, _: &Context, node: u64, name: &CStr, value: &[u8], flags: u32) -> io::Result<()> {
        self.set_xattr(&*self.nodes.get(node)?, name, value, flags)
    }

    fn getxattr(&self, _: &Context, node: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply> {
        if node == ROOT_ID {
            return Err(Errno::NODATA.into());
        }
        self.xattr(&*self.nodes.get(node)?, name, size)
    }

    fn listxattr(&self, _: &Context, node: u64, size: u32) -> io::Result<ListxattrReply> {
        if node == ROOT_ID {
            return Ok(if size == 0 {
                ListxattrReply::Count(0)
            } else {
                ListxattrReply::Names(Vec::new())
            });
        }
        self.xattr_names(&*self.nodes.get(node)?, size)
    }

    fn removexattr(&self, _: &Context, node: u64, name: &CStr) -> io::Result<()> {
        self.remove_xattr(&*self.nodes.get(node)?, name)
    }
}
