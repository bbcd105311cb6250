//! The directory trees that tasks work on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use guest_protocol::{ContainerSpec, MountSource};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

use super::Result;
use crate::os_error::{During, OsError};
use crate::root::Root;
use crate::{files, mounts, rootfs, sys, view};

/// A directory with everything below it. Nothing of it is reached through a symbolic link.
pub(super) struct Tree(OwnedFd);

impl Tree {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens what is at `path`, relative to the tree; empty for the tree itself.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// The directory at `path`, for looking things up in it.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The layers of a container, apart.
pub(super) struct Layers {
    /// The writable one.
    pub(super) upper: Tree,
    /// The image, all layers of it stacked; `None` for a container without one.
    pub(super) lower: Option<Tree>,
}

/// The container's root file system without anything mounted in it.
pub(super) fn bare_root() -> Result<Root> {
    Ok(view::leave_agent(false)?)
}

/// The container's root file system with its volumes and the files given to it.
pub(super) fn full_root(container: &ContainerSpec) -> Result<Root> {
    let sources = view::open_sources(container)?;
    let files = files::bind_all(&container.files)?;
    let root = view::leave_agent(false)?;
    for (mount, source) in container.mounts.iter().zip(sources) {
        if matches!(mount.source, MountSource::Shared { .. }) {
            view::place(&root, mount, source)?;
        }
    }
    for (file, mount) in container.files.iter().zip(files) {
        let target = root.file(&file.target)?;
        mounts::attach(&mount, &target).during("mount", &file.target)?;
    }
    if container.rootfs.read_only {
        sys::set_mount_attributes(&root, libc::MOUNT_ATTR_RDONLY).during("make read-only", "the root")?;
    }
    Ok(root)
}

/// The layers, and nothing else in sight.
pub(super) fn layers(container: &ContainerSpec) -> Result<Layers> {
    let upper = open_directory(rootfs::UPPER)?;
    let lower = rootfs::lower(&container.rootfs.layers)?;
    view::leave_agent(false)?;
    Ok(Layers {
        upper: Tree::new(upper),
        lower: lower.map(Tree::new),
    })
}

fn open_directory(path: &str) -> Result<OwnedFd, OsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).during("open", path)
}
