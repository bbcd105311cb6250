//! Copy-up: what the image has at the target of a mount, copied into the folder that is mounted there.

use std::fs::File;
use std::os::fd::OwnedFd;

use guest_protocol::{ContainerSpec, FillSpec};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, futimens};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tar_stream::Timestamp;

use super::pack::Packer;
use super::trees::{self, Tree};
use super::walk::names_in;
use super::{Result, TaskError, unpack, xattrs};
use crate::os_error::During;
use crate::root::Root;
use crate::view;

/// From where to where.
pub(super) struct Places {
    image: Root,
    volume: Root,
    target: String,
    again: bool,
}

impl Places {
    /// Finds both, and leaves everything else behind.
    pub(super) fn open(container: &ContainerSpec, spec: &FillSpec) -> Result<Self> {
        let index = spec.mount as usize;
        let mount = container
            .mounts
            .get(index)
            .ok_or(TaskError::NoMount(spec.mount))?;
        let folder = view::open_sources(container)?.into_iter().nth(index).flatten();
        let folder = folder.ok_or(TaskError::NoMount(spec.mount))?;
        Ok(Self {
            image: trees::bare_root()?,
            volume: Root::new(folder),
            target: mount.target.clone(),
            again: spec.again,
        })
    }

    /// Copies. The folder's own owner and mode come last, so that only what is whole looks like it.
    pub(super) fn copy(&self, container: &ContainerSpec) -> Result<()> {
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        let source = match self.image.open(self.target.as_str(), directory, Mode::empty()) {
            Ok(source) => source,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error).during("open", &self.target)?,
        };
        let volume = self
            .volume
            .open("/", directory, Mode::empty())
            .during("open", "the volume")?;
        if !self.again && !names_in(&volume).during("read", "the volume")?.is_empty() {
            return Ok(());
        }
        let tree = self.image.find(&self.target).during("open", &self.target)?;
        self.copy_tree(container, Tree::new(tree))?;
        self.describe(&source, &volume)
    }

    /// One thread reads, the other writes.
    fn copy_tree(&self, container: &ContainerSpec, tree: Tree) -> Result<()> {
        let (input, output) = pipe_with(PipeFlags::CLOEXEC).during("make", "a pipe")?;
        std::thread::scope(|scope| {
            let packed = scope.spawn(move || {
                let mut packer = Packer::new(container, File::from(output));
                // The folder takes no device nodes: on the host they would be real.
                packer.add_tree(&tree, b"", &mut |found| {
                    !matches!(found.kind(), FileType::CharacterDevice | FileType::BlockDevice)
                })?;
                packer.finish()
            });
            let unpacked = unpack::unpack_whole(container, &self.volume, File::from(input));
            let packed = packed.join().unwrap_or(Err(TaskError::Reader));
            // Who cannot write has the reader find the pipe broken.
            unpacked.and(packed)
        })
    }

    fn describe(&self, source: &OwnedFd, volume: &OwnedFd) -> Result<()> {
        let what = "the volume";
        let stat = fstat(source).during("look at", &self.target)?;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchown(volume, Some(uid), Some(gid)).during("change the owner of", what)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        fchmod(volume, mode).during("change the mode of", what)?;
        xattrs::write(volume, &xattrs::read(source)).during("set attributes of", what)?;
        let mtime = Timestamp {
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as u32,
        };
        Ok(futimens(volume, &unpack::times(mtime)).during("set the times of", what)?)
    }
}
