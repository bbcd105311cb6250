//! Devices of the guest that a container asks for beyond those that every container has.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use guest_protocol::{Device, DeviceAccess, DeviceKind, DeviceRule, Devices};
use rustix::fs::{
    Dev, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, minor, mknodat, open, openat, openat2,
};
use rustix::io::Errno;

use crate::os_error::{During, OsError};
use crate::root::Root;

/// How deep `/dev` is searched for all devices.
const DEPTH: usize = 4;

/// Why the container does not get a device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error(
        "error gathering device information while adding custom device {0:?}: the kernel of the microVM has no such device, \
         and those of the host stay there"
    )]
    Missing(String),
}

/// A device with the node that the container is to have.
pub(crate) struct Node {
    target: String,
    mode: u32,
    number: Dev,
    access: DeviceAccess,
}

/// Looks the devices up, for a caller that sees the agent's `/dev`.
pub(crate) fn find(devices: &Devices) -> Result<Vec<Node>, DeviceError> {
    const DEV: &str = "/dev";
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dev = || open(DEV, flags, Mode::empty()).during("open", DEV);
    match devices {
        Devices::Some { nodes, .. } if nodes.is_empty() => Ok(Vec::new()),
        Devices::Some { nodes, .. } => {
            let dev = dev()?;
            nodes.iter().map(|device| find_one(&dev, device)).collect()
        }
        Devices::All => {
            let mut found = Vec::new();
            collect(dev()?, DEV, DEPTH, &mut found)?;
            Ok(found)
        }
    }
}

fn find_one(dev: &OwnedFd, device: &Device) -> Result<Node, DeviceError> {
    let missing = || DeviceError::Missing(device.path.clone());
    let path = device.path.strip_prefix("/dev/").ok_or_else(missing)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = match openat2(dev, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
        found => found.during("find the device", &device.path)?,
    };
    let status = fstat(found).during("look at the device", &device.path)?;
    if kind(&status).is_none() {
        return Err(missing());
    }
    Ok(node(&status, device.target.clone(), device.access))
}

/// All devices in a directory and those below it.
fn collect(directory: OwnedFd, path: &str, depth: usize, found: &mut Vec<Node>) -> Result<(), OsError> {
    let mut entries = Dir::read_from(&directory).during("read", path)?;
    while let Some(entry) = entries.read() {
        let entry = entry.during("read", path)?;
        let name = entry.file_name();
        let target = format!("{path}/{}", name.to_string_lossy());
        match entry.file_type() {
            FileType::Directory if depth > 0 && !matches!(name.to_bytes(), b"." | b"..") => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(&directory, name, flags, Mode::empty()).during("open", &target)?;
                collect(below, &target, depth - 1, found)?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let device = openat(&directory, name, flags, Mode::empty()).during("open", &target)?;
                let status = fstat(device).during("look at the device", &target)?;
                found.push(node(&status, target, DeviceAccess::default()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn node(status: &Stat, target: String, access: DeviceAccess) -> Node {
    Node {
        target,
        mode: status.st_mode,
        number: status.st_rdev,
        access,
    }
}

fn kind(status: &Stat) -> Option<DeviceKind> {
    match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice => Some(DeviceKind::Character),
        FileType::BlockDevice => Some(DeviceKind::Block),
        _ => None,
    }
}

/// What the container may open of them.
pub(crate) fn rules(nodes: &[Node]) -> Vec<DeviceRule> {
    let rule = |node: &Node| DeviceRule {
        kind: Some(match FileType::from_raw_mode(node.mode) {
            FileType::BlockDevice => DeviceKind::Block,
            _ => DeviceKind::Character,
        }),
        major: Some(major(node.number)),
        minor: Some(minor(node.number)),
        access: node.access,
    };
    nodes.iter().map(rule).collect()
}

/// Makes the nodes in the container. One that is there stays.
pub(crate) fn make(root: &Root, nodes: &[Node]) -> Result<(), OsError> {
    for node in nodes {
        let (parent, name) = node.target.rsplit_once('/').unwrap_or(("", &node.target));
        let parent = root.directory(if parent.is_empty() { "/" } else { parent })?;
        let subject = || format!("the device {}", node.target);
        let name = CString::new(name)
            .map_err(|_| Errno::INVAL)
            .during("name", subject())?;
        let kind = FileType::from_raw_mode(node.mode);
        match mknodat(
            &parent,
            &name,
            kind,
            Mode::from_raw_mode(node.mode & 0o777),
            node.number,
        ) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during("make", subject()),
        }
    }
    Ok(())
}
