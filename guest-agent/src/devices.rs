//! `/dev` of the container.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Dev, FileType, Mode, makedev, mkdirat, mknodat, symlinkat};

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
const DIRECTORIES: [&CStr; 3] = [c"pts", c"shm", c"mqueue"];

/// Fills a new `/dev`.
pub(crate) fn populate(dev: impl AsFd) -> Result<(), OsError> {
    let dev = dev.as_fd();
    for device in &DEVICES {
        make_node(dev, device).during("make the device", device.name.to_string_lossy())?;
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
