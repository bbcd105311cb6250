//! `/dev` of the container.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dev, FileType, Mode, OFlags, makedev, mkdirat, mknodat, open, openat, symlinkat};

use crate::mounts;
use crate::os_error::{During, OsError};

/// A device that every container has.
struct Device {
    name: &'static CStr,
    major: u32,
    minor: u32,
}

/// Character devices, `Documentation/admin-guide/devices.txt`.
const DEVICES: [Device; 6] = [
    Device {
        name: c"null",
        major: 1,
        minor: 3,
    },
    Device {
        name: c"zero",
        major: 1,
        minor: 5,
    },
    Device {
        name: c"full",
        major: 1,
        minor: 7,
    },
    Device {
        name: c"random",
        major: 1,
        minor: 8,
    },
    Device {
        name: c"urandom",
        major: 1,
        minor: 9,
    },
    Device {
        name: c"tty",
        major: 5,
        minor: 0,
    },
];

const LINKS: [(&CStr, &CStr); 6] = [
    (c"pts/ptmx", c"ptmx"),
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"/proc/kcore", c"core"),
];

/// Mount points below it.
const DIRECTORIES: [&CStr; 2] = [c"pts", c"mqueue"];

/// Mounts of the agent's own nodes, in their order.
pub(crate) fn bind_all() -> Result<Vec<OwnedFd>, OsError> {
    let bind = |device: &Device| {
        let path = format!("/dev/{}", device.name.to_string_lossy());
        let node = open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", &path)?;
        mounts::bind(&node).during("bind", path)
    };
    DEVICES.iter().map(bind).collect()
}

/// Fills a new `/dev`, which is in its place, with nodes of its own or with mounts of others.
pub(crate) fn populate(dev: impl AsFd, nodes: Option<Vec<OwnedFd>>) -> Result<(), OsError> {
    let dev = dev.as_fd();
    match nodes {
        Some(nodes) => {
            for (device, node) in DEVICES.iter().zip(nodes) {
                attach_node(dev, device, &node).during("mount the device", device.name.to_string_lossy())?;
            }
        }
        None => {
            for device in &DEVICES {
                make_node(dev, device).during("make the device", device.name.to_string_lossy())?;
            }
        }
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name).during("make the link", format!("/dev/{}", name.to_string_lossy()))?;
    }
    for name in DIRECTORIES {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))
            .during("make the directory", name.to_string_lossy())?;
    }
    Ok(())
}

fn attach_node(dev: BorrowedFd<'_>, device: &Device, node: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let place = openat(dev, device.name, flags, Mode::from_raw_mode(0o666))?;
    mounts::attach(node, &place)
}

fn make_node(dev: BorrowedFd<'_>, device: &Device) -> rustix::io::Result<()> {
    let number: Dev = makedev(device.major, device.minor);
    mknodat(
        dev,
        device.name,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        number,
    )
}
