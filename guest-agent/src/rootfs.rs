//! The container's root file system: layers as EROFS files on virtio-fs, stacked under a writable one by overlayfs.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use guest_protocol::Rootfs as RootfsSpec;
use rustix::fs::{CWD, Mode, OFlags, chmodat, chownat, mkdirat, open, stat, syncfs};
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_set_string, fsopen, mount, mount_remount,
    unmount,
};

use crate::boot::make_directory;
use crate::mounts;
use crate::os_error::{During, OsError};
use crate::sys;
use crate::user_namespace::UserNamespace;

/// Where the container's root is mounted for the agent.
pub(crate) const ROOT: &str = "/run/root";
/// Where the device with the layer files is.
const LAYER_FILES: &str = "/run/layers";
/// Where each layer is mounted, in a directory named as its file is.
const LAYERS: &str = "/run/layer";
/// Where the writable file system is.
const DISK: &str = "/run/disk";
/// The writable layer.
pub(crate) const UPPER: &str = "/run/disk/upper";
const WORK: &str = "/run/disk/work";
/// Where the kernel has the settings of every mounted file system's device.
const READ_AHEADS: &str = "/sys/class/bdi";
const READ_AHEAD_KIB: &str = "1024";

/// Why a root file system could not be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("no disk has the serial number {wanted:?}; there are {found:?}")]
    NoDisk { wanted: String, found: Vec<String> },
    #[error("cannot list the disks: {0}")]
    ListDisks(std::io::Error),
    #[error("cannot set how far the layers are read ahead: {0}")]
    ReadAhead(std::io::Error),
    #[error("the layer name {0:?} is not a single path component")]
    LayerName(String),
}

/// The mounted root file system, or what is left of one for the next.
pub(crate) struct Rootfs {
    has_disk: bool,
    has_layer_files: bool,
    /// The names of all layers that are mounted.
    layers: BTreeSet<String>,
}

impl Rootfs {
    pub(crate) fn mount(spec: &RootfsSpec, owners: Option<&UserNamespace>) -> Result<Self, RootfsError> {
        for directory in [ROOT, LAYER_FILES, LAYERS, DISK] {
            make_directory(directory)?;
        }
        match &spec.disk {
            Some(serial) => mount_disk(serial)?,
            None => mount_memory()?,
        }
        let mut rootfs = Self {
            has_disk: spec.disk.is_some(),
            has_layer_files: false,
            layers: BTreeSet::new(),
        };
        rootfs.stack(spec, owners)?;
        Ok(rootfs)
    }

    /// Stacks these layers under the writable one. Those that were mounted before stay so, with what is cached of them.
    pub(crate) fn stack(
        &mut self,
        spec: &RootfsSpec,
        owners: Option<&UserNamespace>,
    ) -> Result<(), RootfsError> {
        if !spec.layers.is_empty() && !self.has_layer_files {
            mount_layer_files(&spec.layers_tag)?;
            self.has_layer_files = true;
        }
        for name in &spec.layers {
            if !self.layers.contains(name) {
                mount_layer(name, owners)?;
                self.layers.insert(name.clone());
            }
        }
        read_ahead().map_err(RootfsError::ReadAhead)?;
        make_upper(&spec.layers)?;
        Ok(stack(&spec.layers)?)
    }

    /// Takes the stack apart and deletes the writable layer, when no process uses it any more.
    pub(crate) fn clear(&mut self) -> Result<(), OsError> {
        unmount(ROOT, UnmountFlags::DETACH).during("unmount", ROOT)?;
        for directory in [UPPER, WORK] {
            let removed = fs::remove_dir_all(directory);
            removed
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
                .during("delete", directory)?;
        }
        Ok(())
    }

    /// Writes everything to the disk and lets go of it.
    pub(crate) fn unmount(&mut self) -> Result<(), OsError> {
        if !std::mem::take(&mut self.has_disk) {
            return Ok(());
        }
        let disk = open(
            DISK,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during("open", DISK)?;
        syncfs(&disk).during("write back", DISK)?;
        drop(disk);
        unmount(ROOT, UnmountFlags::DETACH).during("unmount", ROOT)?;
        match unmount(DISK, UnmountFlags::empty()) {
            Ok(()) => Ok(()),
            // Something still holds it; without writers the disk is just as clean.
            Err(Errno::BUSY) => mount_remount(DISK, MountFlags::RDONLY, c"").during("make read-only", DISK),
            Err(error) => Err(error).during("unmount", DISK),
        }
    }
}

/// Mounts the device with the layer files. EROFS reads them through the page cache: a file mapped through a DAX window
/// has none, and the kernel refuses to mount it.
fn mount_layer_files(tag: &str) -> Result<(), OsError> {
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    mount(tag, LAYER_FILES, c"virtiofs", flags, c"dax=never").during("mount the virtio-fs device", tag)
}

fn mount_layer(name: &str, owners: Option<&UserNamespace>) -> Result<(), RootfsError> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(RootfsError::LayerName(name.into()));
    }
    let target = format!("{LAYERS}/{name}");
    make_directory(&target)?;
    let file = format!("{LAYER_FILES}/{name}");
    mount(file, &target, c"erofs", MountFlags::RDONLY, c"directio").during("mount the layer", name)?;
    if let Some(owners) = owners {
        map_owners(&target, owners).during("map the owners of the layer", name)?;
    }
    Ok(())
}

/// Has reads of the layers take more than the kernel's 128 KiB at a time: a program that starts touches pages all over
/// its file, and each read is a round trip to the host, which has the file in memory.
fn read_ahead() -> std::io::Result<()> {
    for entry in fs::read_dir(READ_AHEADS)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("erofs-") {
            fs::write(entry.path().join("read_ahead_kb"), READ_AHEAD_KIB)?;
        }
    }
    Ok(())
}

/// Covers a mount by one of the same that shows the owners as the user namespace has them.
fn map_owners(path: &str, owners: &UserNamespace) -> Result<(), Errno> {
    let place = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let mapped = mounts::bind(&place)?;
    sys::map_mount_owners(&mapped, owners.as_fd())?;
    mounts::attach(&mapped, &place)
}

fn mount_disk(serial: &str) -> Result<(), RootfsError> {
    let device = find_disk(serial)?;
    // The template leaves the inode tables to be zeroed later, which would fill its holes; deleted files give their
    // blocks back to the host.
    let options = c"noinit_itable,discard";
    let flags = MountFlags::NOATIME;
    Ok(mount(&device, DISK, c"ext4", flags, options).during("mount the disk", device)?)
}

fn mount_memory() -> Result<(), RootfsError> {
    Ok(mount(c"tmpfs", DISK, c"tmpfs", MountFlags::NOATIME, c"mode=0755")
        .during("mount", "a tmpfs as the writable layer")?)
}

/// The device with this serial number.
fn find_disk(serial: &str) -> Result<String, RootfsError> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").map_err(RootfsError::ListDisks)? {
        let name = entry
            .map_err(RootfsError::ListDisks)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if !name.starts_with("vd") {
            continue;
        }
        let its = fs::read_to_string(format!("/sys/block/{name}/serial")).map_err(RootfsError::ListDisks)?;
        if its.trim_end() == serial {
            return Ok(format!("/dev/{name}"));
        }
        found.push(its.trim_end().to_string());
    }
    Err(RootfsError::NoDisk {
        wanted: serial.into(),
        found,
    })
}

/// Makes the writable layer on a new disk. Its root directory stands for the root of the whole stack, so it takes owner
/// and mode from the layer below.
fn make_upper(layers: &[String]) -> Result<(), OsError> {
    match mkdirat(CWD, UPPER, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => return Ok(()),
        result => result.during("make the directory", UPPER)?,
    }
    make_directory(WORK)?;
    if let Some(top) = layers.last() {
        let top = format!("{LAYERS}/{top}");
        let status = stat(&top).during("look at", top)?;
        let owner = rustix::fs::Uid::from_raw(status.st_uid);
        let group = rustix::fs::Gid::from_raw(status.st_gid);
        chownat(CWD, UPPER, Some(owner), Some(group), rustix::fs::AtFlags::empty())
            .during("change the owner of", UPPER)?;
        chmodat(
            CWD,
            UPPER,
            Mode::from_raw_mode(status.st_mode),
            rustix::fs::AtFlags::empty(),
        )
        .during("change the mode of", UPPER)?;
    }
    Ok(())
}

/// The layers below the writable one as one directory, mounted nowhere; `None` when there are none.
pub(crate) fn lower(layers: &[String]) -> Result<Option<OwnedFd>, OsError> {
    if let [] | [_] = layers {
        let open = |name| {
            let path = format!("{LAYERS}/{name}");
            open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        };
        return layers.first().map(open).transpose().during("open", "the layer");
    }
    let overlay = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).during("create", "an overlay")?;
    for name in layers.iter().rev() {
        let layer = format!("{LAYERS}/{name}");
        fsconfig_set_string(&overlay, "lowerdir+", &layer).during("set the overlay option", layer)?;
    }
    let lower = mounts::finish(&overlay, MountAttrFlags::MOUNT_ATTR_RDONLY);
    let count = layers.len();
    lower.during("stack", format!("{count} layers")).map(Some)
}

/// Stacks the layers under the writable one. Layers are named one by one: in one string, many of them would not fit in
/// the page that mount(2) takes.
fn stack(layers: &[String]) -> Result<(), OsError> {
    let target = open(ROOT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", ROOT)?;
    if layers.is_empty() {
        let upper = open(UPPER, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", UPPER)?;
        let root = mounts::bind(&upper).during("bind", UPPER)?;
        return mounts::attach(&root, &target).during("mount", ROOT);
    }
    let overlay = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).during("create", "an overlay")?;
    let set = |key: &str, value: &str| {
        fsconfig_set_string(&overlay, key, value).during("set the overlay option", format!("{key}={value}"))
    };
    for name in layers.iter().rev() {
        set("lowerdir+", &format!("{LAYERS}/{name}"))?;
    }
    set("upperdir", UPPER)?;
    set("workdir", WORK)?;
    // A changed file lies whole in the writable layer, where a commit finds it by itself.
    for (key, value) in [
        ("metacopy", "off"),
        ("redirect_dir", "off"),
        ("index", "off"),
        ("xino", "off"),
    ] {
        set(key, value)?;
    }
    let count = layers.len();
    let root =
        mounts::finish(&overlay, MountAttrFlags::empty()).during("stack", format!("{count} layers"))?;
    mounts::attach(&root, &target).during("mount", ROOT)
}
