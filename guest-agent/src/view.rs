//! What the container sees: its root, the file systems every container has, its mounts, and what is hidden from it.
//!
//! All of this is done by the process that becomes the container's init, in namespaces of its own.

use std::os::fd::{AsFd, OwnedFd};

use guest_protocol::{ContainerSpec, Mount, MountSource, TmpfsFlags};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::{Errno, write};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{chdir, fchdir, pivot_root};
use rustix::system::sethostname;

use crate::extra_devices::DeviceError;
use crate::os_error::{During, OsError};
use crate::root::Root;
use crate::{devices, extra_devices, files, mounts, rootfs, sockets, sys};

/// Where virtio-fs devices with host folders are mounted for the agent, in a directory named by the index of the tag.
pub(crate) const SHARED: &str = "/run/shared";

const NO_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const NO_SUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NO_DEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
pub(crate) const HARMLESS: MountAttrFlags = NO_EXEC.union(NO_SUID).union(NO_DEV);

/// Why the view could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("cannot mount {target}: no virtio-fs device with the tag {tag:?} was mounted")]
    NoDevice { target: String, tag: String },
    #[error("the sysctl {0:?} is not a name beneath /proc/sys")]
    SysctlName(String),
}

/// The tags of the devices that the mounts need, each once.
pub(crate) fn shared_tags(mounts: &[Mount]) -> Vec<&str> {
    let mut tags: Vec<&str> = Vec::new();
    for mount in mounts {
        if let MountSource::Shared { tag, .. } = &mount.source
            && !tags.contains(&tag.as_str())
        {
            tags.push(tag);
        }
    }
    tags
}

/// Leaves the agent's view of the guest for the container's; needs new mount, UTS, IPC, pid and cgroup namespaces.
pub(crate) fn enter(spec: &ContainerSpec) -> Result<Root, ViewError> {
    let sources = open_sources(spec)?;
    let files = files::bind_all(&spec.files)?;
    let sockets = sockets::bind_all(&spec.sockets)?;
    let standard = Standard::open(spec)?;
    let devices = extra_devices::find(&spec.devices)?;
    let root = leave_agent(spec.namespaces.user)?;
    standard.place(&root, spec.shm_bytes)?;
    extra_devices::make(&root, &devices)?;
    for (mount, source) in spec.mounts.iter().zip(sources) {
        place(&root, mount, source)?;
    }
    let file_targets = spec.files.iter().map(|file| &file.target);
    let socket_targets = spec.sockets.iter().map(|socket| &socket.target);
    for (path, mount) in file_targets.zip(files).chain(socket_targets.zip(sockets)) {
        let target = root.file(path)?;
        mounts::attach(&mount, &target).during("mount", path)?;
    }
    sethostname(spec.hostname.as_bytes()).during("set the host name to", &spec.hostname)?;
    for (name, value) in &spec.sysctls {
        set_sysctl(&root, name, value)?;
    }
    if !spec.working_dir.is_empty() {
        root.directory(&spec.working_dir)?;
    }
    for path in &spec.read_only_paths {
        make_read_only(&root, path).during("make read-only", path)?;
    }
    for path in &spec.masked_paths {
        mask(&root, path)?;
    }
    if spec.rootfs.read_only {
        sys::set_mount_attributes(&root, libc::MOUNT_ATTR_RDONLY).during("make read-only", "the root")?;
    }
    Ok(root)
}

/// Makes the container's root the root, and leaves the agent's file systems behind.
pub(crate) fn leave_agent(user_namespace: bool) -> Result<Root, OsError> {
    let find = |path| {
        open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during("open", path)
    };
    let agent_root = find("/")?;
    let mut root = find(rootfs::ROOT)?;
    if user_namespace {
        // What was mounted outside of it is locked in place, but for another mount of the same.
        let unlocked = mounts::bind(&root).during("bind", rootfs::ROOT)?;
        mounts::attach(&unlocked, &root).during("mount", rootfs::ROOT)?;
        root = unlocked;
    }
    fchdir(&root).during("enter", rootfs::ROOT)?;
    // The agent's root comes to lie over the container's and is taken away at once, before any path of the container
    // is resolved: `..` in a link would lead onto it.
    pivot_root(c".", c".").during("make the root", rootfs::ROOT)?;
    fchdir(&agent_root).during("enter", "the agent's root")?;
    unmount(c".", UnmountFlags::DETACH).during("leave", "the agent's root")?;
    chdir(c"/").during("enter", "/")?;
    Ok(Root::new(root))
}

/// Mounts of what the agent can still see and the container will not: the shared folders, in the order of the mounts.
pub(crate) fn open_sources(spec: &ContainerSpec) -> Result<Vec<Option<OwnedFd>>, ViewError> {
    let tags = shared_tags(&spec.mounts);
    let mut sources = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        let MountSource::Shared { tag, path } = &mount.source else {
            sources.push(None);
            continue;
        };
        let index = tags
            .iter()
            .position(|known| known == tag)
            .ok_or_else(|| ViewError::NoDevice {
                target: mount.target.clone(),
                tag: tag.clone(),
            })?;
        let device = format!("{SHARED}/{index}");
        let device = open(&device, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", device)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let subject = || format!("{path:?} of the shared device {tag}");
        let source = openat2(
            &device,
            path.as_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
        .during("find", subject())?;
        sources.push(Some(mounts::bind(&source).during("bind", subject())?));
    }
    Ok(sources)
}

/// What of the standard file systems has to be made while the agent's are still in sight: in a user namespace the
/// kernel gives out only what can be seen already.
struct Standard {
    proc: OwnedFd,
    sys: OwnedFd,
    /// How the cgroups are mounted, which is done from within their namespace.
    cgroup: MountAttrFlags,
    /// The agent's device nodes, where the container cannot make its own.
    devices: Option<Vec<OwnedFd>>,
}

impl Standard {
    fn open(spec: &ContainerSpec) -> Result<Self, OsError> {
        let proc = mounts::file_system("proc", "", HARMLESS)?;
        let sys = if spec.namespaces.user {
            // A sysfs belongs to a network namespace, and this one is not the container's.
            let sys = open("/sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", "/sys")?;
            let sys = mounts::bind_tree(&sys).during("bind", "/sys")?;
            sys::set_mount_attributes(&sys, libc::MOUNT_ATTR_RDONLY).during("make read-only", "/sys")?;
            sys
        } else {
            mounts::file_system("sysfs", "", kernel_attributes(spec))?
        };
        let devices = spec.namespaces.user.then(devices::bind_all).transpose()?;
        let cgroup = kernel_attributes(spec);
        Ok(Self {
            proc,
            sys,
            cgroup,
            devices,
        })
    }

    /// Puts all of them in place, with Docker's options.
    fn place(self, root: &Root, shm_bytes: u64) -> Result<(), OsError> {
        let place = |target: &str, mount: &OwnedFd| {
            mounts::attach(mount, root.directory(target)?).during("mount", target)
        };
        place("/proc", &self.proc)?;
        let dev = mounts::file_system("tmpfs", "mode=755,size=65536k", NO_SUID)?;
        place("/dev", &dev)?;
        devices::populate(&dev, self.devices)?;
        let options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
        place(
            "/dev/pts",
            &mounts::file_system("devpts", options, NO_SUID | NO_EXEC)?,
        )?;
        if shm_bytes > 0 {
            let options = format!("mode=1777,size={shm_bytes}");
            place("/dev/shm", &mounts::file_system("tmpfs", &options, HARMLESS)?)?;
        }
        place("/dev/mqueue", &mounts::file_system("mqueue", "", HARMLESS)?)?;
        place("/sys", &self.sys)?;
        place(
            "/sys/fs/cgroup",
            &mounts::file_system("cgroup2", "", self.cgroup)?,
        )
    }
}

/// How what tells of the kernel is mounted.
fn kernel_attributes(spec: &ContainerSpec) -> MountAttrFlags {
    if spec.writable_kernel {
        HARMLESS
    } else {
        HARMLESS | READ_ONLY
    }
}

/// Puts one mount in its place.
pub(crate) fn place(root: &Root, mount: &Mount, source: Option<OwnedFd>) -> Result<(), OsError> {
    let source = match (&mount.source, source) {
        (MountSource::Shared { .. }, Some(source)) => source,
        (MountSource::Shared { .. }, None) => return Err(Errno::NOENT).during("mount", &mount.target),
        (MountSource::Tmpfs { options, flags }, _) => {
            mounts::file_system("tmpfs", options, tmpfs_attributes(*flags))?
        }
    };
    if mount.read_only {
        sys::set_mount_attributes(&source, libc::MOUNT_ATTR_RDONLY)
            .during("make read-only", &mount.target)?;
    }
    let target = if is_directory(&source).during("look at the source of", &mount.target)? {
        root.directory(&mount.target)?
    } else {
        root.file(&mount.target)?
    };
    mounts::attach(&source, &target).during("mount", &mount.target)
}

fn tmpfs_attributes(flags: TmpfsFlags) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::empty();
    attributes.set(NO_EXEC, flags.no_exec);
    attributes.set(NO_SUID, flags.no_suid);
    attributes.set(NO_DEV, flags.no_dev);
    attributes
}

fn is_directory(what: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(what)?.st_mode) == FileType::Directory)
}

fn set_sysctl(root: &Root, name: &str, value: &str) -> Result<(), ViewError> {
    let relative = if name.contains('/') {
        name.to_string()
    } else {
        name.replace('.', "/")
    };
    let is_name = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !relative.split('/').all(is_name) {
        return Err(ViewError::SysctlName(name.into()));
    }
    let file = root
        .open(format!("/proc/sys/{relative}"), OFlags::WRONLY, Mode::empty())
        .during("open the sysctl", name)?;
    write(&file, value.as_bytes()).during("write the sysctl", format!("{name} = {value}"))?;
    Ok(())
}

/// Mounts a path over itself, read-only, with what is mounted below it as it is. What is not there needs no protection.
fn make_read_only(root: &Root, path: &str) -> Result<(), Errno> {
    let place = match root.find(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        result => result?,
    };
    let mount = mounts::bind_tree(&place)?;
    sys::set_mount_attributes(&mount, libc::MOUNT_ATTR_RDONLY)?;
    mounts::attach(&mount, &place)
}

/// Hides what is at a path. What is not there needs no hiding.
fn mask(root: &Root, path: &str) -> Result<(), OsError> {
    let place = match root.find(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        result => result.during("find", path)?,
    };
    let cover = if is_directory(&place).during("look at", path)? {
        mounts::file_system("tmpfs", "mode=755", HARMLESS | READ_ONLY)?
    } else {
        let null = root.find("/dev/null").during("find", "/dev/null")?;
        mounts::bind(&null).during("bind", "/dev/null")?
    };
    mounts::attach(&cover, &place).during("hide", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_several_mounts_is_named_once() {
        let mount = |source| Mount {
            target: "/t".into(),
            source,
            read_only: false,
        };
        let shared = |tag: &str| {
            mount(MountSource::Shared {
                tag: tag.into(),
                path: "a".into(),
            })
        };
        let flags = TmpfsFlags {
            no_exec: true,
            no_suid: true,
            no_dev: true,
        };
        let tmpfs = mount(MountSource::Tmpfs {
            options: String::new(),
            flags,
        });
        assert_eq!(
            shared_tags(&[shared("x"), tmpfs, shared("y"), shared("x")]),
            ["x", "y"]
        );
    }
}
