//! The FUSE operations of [`LayerDirectory`].

use std::ffi::CStr;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, stat64};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions, ROOT_ID,
    SetattrValid, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::transport::FsCacheReqHandler;
use rustix::io::Errno;

use super::{DAX_RANGE, FOREVER, LayerDirectory, Mapping};

fn read_only<T>() -> io::Result<T> {
    Err(Errno::ROFS.into())
}

impl FileSystem for LayerDirectory {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        self.open_needless
            .store(capable.contains(FsOptions::ZERO_MESSAGE_OPEN), Ordering::Relaxed);
        self.opendir_needless.store(
            capable.contains(FsOptions::ZERO_MESSAGE_OPENDIR),
            Ordering::Relaxed,
        );
        Ok(FsOptions::ASYNC_READ
            | FsOptions::BIG_WRITES
            | FsOptions::MAX_PAGES
            | FsOptions::INIT_EXT
            | FsOptions::PARALLEL_DIROPS
            | FsOptions::DO_READDIRPLUS
            | FsOptions::READDIRPLUS_AUTO
            | FsOptions::ZERO_MESSAGE_OPEN
            | FsOptions::ZERO_MESSAGE_OPENDIR)
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        if parent != ROOT_ID {
            self.layer(parent)?;
            return Err(Errno::NOTDIR.into());
        }
        let node = self.files().by_name.get(name).copied();
        // One that is not there may be added.
        node.map_or(Err(Errno::NOENT.into()), |node| self.entry(node))
    }

    fn getattr(&self, _: &Context, node: u64, _: Option<u64>) -> io::Result<(stat64, Duration)> {
        Ok((self.attributes(node)?, FOREVER))
    }

    fn open(
        &self,
        _: &Context,
        node: u64,
        flags: u32,
        _: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        self.layer(node)?;
        let flags = flags as i32;
        if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0 {
            return read_only();
        }
        if self.open_needless.load(Ordering::Relaxed) {
            return Err(Errno::NOSYS.into());
        }
        Ok((None, OpenOptions::KEEP_CACHE, None))
    }

    fn release(
        &self,
        _: &Context,
        node: u64,
        _: u32,
        _: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> io::Result<()> {
        self.layer(node).map(drop)
    }

    fn read(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        let layer = self.layer(node)?;
        let left = layer.len.saturating_sub(offset);
        let count = u64::from(size).min(left).min(w.available_bytes() as u64) as usize;
        if count == 0 {
            return Ok(0);
        }
        let mut file = layer.file.lock().map_err(|_| io::Error::from(Errno::IO))?;
        w.write_from(&mut *file, count, offset)
    }

    fn setupmapping(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        foffset: u64,
        len: u64,
        flags: u64,
        moffset: u64,
        window: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        self.layer(node)?;
        if flags & SetupmappingFlags::WRITE.bits() != 0 {
            return read_only();
        }
        if !moffset.is_multiple_of(DAX_RANGE) || !foffset.is_multiple_of(DAX_RANGE) || len != DAX_RANGE {
            return Err(Errno::INVAL.into());
        }
        let mapping = Mapping {
            window_offset: moffset,
            node,
            file_offset: foffset,
        };
        self.map(&mapping, len, window)?;
        self.mappings().insert(moffset, mapping);
        Ok(())
    }

    fn removemapping(
        &self,
        _: &Context,
        _: u64,
        requests: Vec<RemovemappingOne>,
        window: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        if requests
            .iter()
            .any(|part| part.moffset % DAX_RANGE != 0 || part.len != DAX_RANGE)
        {
            return Err(Errno::INVAL.into());
        }
        for part in requests {
            window.unmap(vec![part])?;
            self.mappings().remove(&part.moffset);
        }
        Ok(())
    }

    fn destroy(&self) {
        self.mappings().clear();
    }

    fn opendir(&self, _: &Context, node: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        if node != ROOT_ID {
            self.layer(node)?;
            return Err(Errno::NOTDIR.into());
        }
        if self.opendir_needless.load(Ordering::Relaxed) {
            return Err(Errno::NOSYS.into());
        }
        Ok((None, OpenOptions::empty()))
    }

    fn releasedir(&self, _: &Context, _: u64, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn readdir(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        _: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(node, offset, &mut |entry, _| add_entry(entry))
    }

    fn readdirplus(
        &self,
        _: &Context,
        node: u64,
        _: u64,
        _: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(node, offset, &mut |entry, file| {
            add_entry(entry, self.entry(file)?)
        })
    }

    // Everything that would change something. What is not listed answers ENOSYS by default.

    fn setattr(
        &self,
        _: &Context,
        _: u64,
        _: stat64,
        _: Option<u64>,
        _: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        read_only()
    }

    fn symlink(&self, _: &Context, _: &CStr, _: u64, _: &CStr) -> io::Result<Entry> {
        read_only()
    }

    fn mknod(&self, _: &Context, _: u64, _: &CStr, _: u32, _: u32, _: u32) -> io::Result<Entry> {
        read_only()
    }

    fn mkdir(&self, _: &Context, _: u64, _: &CStr, _: u32, _: u32) -> io::Result<Entry> {
        read_only()
    }

    fn unlink(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        read_only()
    }

    fn rmdir(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        read_only()
    }

    fn rename(&self, _: &Context, _: u64, _: &CStr, _: u64, _: &CStr, _: u32) -> io::Result<()> {
        read_only()
    }

    fn link(&self, _: &Context, _: u64, _: u64, _: &CStr) -> io::Result<Entry> {
        read_only()
    }

    fn create(
        &self,
        _: &Context,
        _: u64,
        _: &CStr,
        _: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        read_only()
    }

    fn write(
        &self,
        _: &Context,
        _: u64,
        _: u64,
        _: &mut dyn ZeroCopyReader,
        _: u32,
        _: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        _: u32,
    ) -> io::Result<usize> {
        read_only()
    }

    fn fallocate(&self, _: &Context, _: u64, _: u64, _: u32, _: u64, _: u64) -> io::Result<()> {
        read_only()
    }

    fn setxattr(&self, _: &Context, _: u64, _: &CStr, _: &[u8], _: u32) -> io::Result<()> {
        read_only()
    }

    fn removexattr(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        read_only()
    }

    fn getxattr(&self, _: &Context, _: u64, _: &CStr, _: u32) -> io::Result<GetxattrReply> {
        // The guest's kernel does not ask again.
        Err(Errno::NOSYS.into())
    }

    fn listxattr(&self, _: &Context, _: u64, _: u32) -> io::Result<ListxattrReply> {
        Err(Errno::NOSYS.into())
    }
}
