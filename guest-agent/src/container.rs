//! The one container of the microVM, as far as it lies outside of its processes.

use guest_protocol::ContainerSpec;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::boot::make_directory;
use crate::os_error::{During, OsError};
use crate::rootfs::{Rootfs, RootfsError};
use crate::sockets::Sockets;
use crate::user_namespace::UserNamespace;
use crate::view::{SHARED, shared_tags};

/// Why a container could not be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
}

/// A container whose root file system is there. Its namespaces come with its init.
pub(crate) struct Container {
    pub(crate) spec: ContainerSpec,
    pub(crate) rootfs: Rootfs,
    pub(crate) sockets: Sockets,
}

impl Container {
    /// `left` is what a container that was removed has left.
    pub(crate) fn create(spec: ContainerSpec, left: Option<Rootfs>) -> Result<Self, ContainerError> {
        let owners = spec.namespaces.user.then(UserNamespace::create).transpose()?;
        let rootfs = match left {
            None => Rootfs::mount(&spec.rootfs, owners.as_ref())?,
            Some(mut left) => {
                left.stack(&spec.rootfs, owners.as_ref())?;
                left
            }
        };
        let tags = shared_tags(&spec.mounts);
        if !tags.is_empty() {
            make_directory(SHARED)?;
        }
        for (index, tag) in tags.into_iter().enumerate() {
            let target = format!("{SHARED}/{index}");
            make_directory(&target)?;
            mount(tag, &target, c"virtiofs", MountFlags::empty(), None)
                .during("mount the virtio-fs device", tag)?;
        }
        let sockets = Sockets::give(&spec.sockets, spec.namespaces.user)?;
        Ok(Self {
            spec,
            rootfs,
            sockets,
        })
    }

    /// Takes it apart, when all its processes have ended; what is left is for the next one.
    pub(crate) fn remove(mut self) -> Result<Rootfs, ContainerError> {
        for index in 0..shared_tags(&self.spec.mounts).len() {
            let target = format!("{SHARED}/{index}");
            unmount(&target, UnmountFlags::DETACH).during("unmount", target)?;
        }
        self.rootfs.clear()?;
        Ok(self.rootfs)
    }
}
