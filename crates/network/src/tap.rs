//! TAP devices, made for a VMM (Documentation/networking/tuntap.rst).
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use thiserror::Error;

use crate::names::{MAX_NAME, is_plain};

/// Where the kernel gives out TAP devices.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// The most queues that the kernel gives a device (`MAX_TAP_QUEUES`).
const MAX_QUEUES: u16 = 256;

/// A TAP device cannot be made.
#[derive(Debug, Error)]
pub enum TapError {
    /// A name that a TAP device of hull cannot have.
    #[error(
        "'{name}' cannot be the name of a TAP device: it has to have 1 to {MAX_NAME} letters, digits, '-', '_' or '.'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// No queue at all, or more than there can be.
    #[error("TAP device {name} cannot have {queues} queues: 1 to {MAX_QUEUES} are possible")]
    Queues {
        /// The interface.
        name: String,
        /// What was asked for.
        queues: u16,
    },
    /// The kernel has no such devices.
    #[error("{CLONE_DEVICE} is missing, so there are no TAP devices: load the module with 'modprobe tun'")]
    Unsupported,
    /// The process may not.
    #[error(
        "no permission to {action} for TAP device {name}: it takes CAP_NET_ADMIN and access to {CLONE_DEVICE}"
    )]
    Permission {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
    },
    /// An interface has the name.
    #[error("there is an interface {name} already: remove it, or choose another name")]
    Taken {
        /// The interface.
        name: String,
    },
    /// Something else failed.
    #[error("cannot {action} for TAP device {name}: {source}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// As many frames as wait in a queue: the kernel's `DEFAULT_TX_QUEUE_LEN`.
const MOST_WAITING: usize = 1000;

/// Makes a TAP device, and returns a descriptor for each of its queues: without a protocol header, with a `virtio_net_hdr` before
/// each frame, nonblocking, and closed on exec. The device is down, and goes with its last descriptor.
///
/// The host does not speak IPv6 on it: it would answer guests past the rules of their bridge.
///
/// # Errors
/// If the kernel has no TAP devices, the process may not make one, or an interface has the name.
pub fn open_tap(name: &str, queues: u16) -> Result<Vec<OwnedFd>, TapError> {
    if !is_plain(name) {
        return Err(TapError::Name {
            name: name.to_owned(),
        });
    }
    if !(1..=MAX_QUEUES).contains(&queues) {
        let name = name.to_owned();
        return Err(TapError::Queues { name, queues });
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    // The first one must not be a queue of somebody's device; the others are of the first one's.
    let mut descriptors = vec![open_queue(name, flags | libc::IFF_TUN_EXCL)?];
    silence(name)?;
    for _ in 1..queues {
        descriptors.push(open_queue(name, flags)?);
    }
    Ok(descriptors)
}

/// Throws away the frames that wait in a queue of a TAP device; at most as many as it holds.
pub fn drain(queue: &OwnedFd) {
    // Room for the header, and the beginning of the frame: the rest of it is cut off, and gone.
    let mut frame = [0; 64];
    for _ in 0..MOST_WAITING {
        if nix::unistd::read(queue, &mut frame).is_err() {
            return;
        }
    }
}

fn open_queue(name: &str, flags: libc::c_int) -> Result<OwnedFd, TapError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(CLONE_DEVICE);
    let file = opened.map_err(|source| match source.raw_os_error() {
        // The node may be there without the module.
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::Unsupported,
        _ => failed("open a queue", name, source),
    })?;
    set_interface(&file, name, flags).map_err(|errno| match errno {
        Errno::EBUSY | Errno::EEXIST if flags & libc::IFF_TUN_EXCL != 0 => {
            let name = name.to_owned();
            TapError::Taken { name }
        }
        _ => failed("make a queue", name, errno.into()),
    })?;
    Ok(file.into())
}

/// Switches IPv6 off on an interface, in the network namespace of this thread.
fn silence(name: &str) -> Result<(), TapError> {
    match fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| failed("switch IPv6 off", name, source)),
    }
}

fn failed(action: &'static str, name: &str, source: io::Error) -> TapError {
    let name = name.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => TapError::Permission { action, name },
        _ => TapError::Failed { action, name, source },
    }
}

mod ioctl {
    // The number says that the kernel reads an int, which has never been true.
    nix::ioctl_readwrite_bad!(
        /// Makes a descriptor of the clone device a queue of an interface.
        set_interface,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );
}

fn set_interface(file: &File, name: &str, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: zeros are a request without a name and flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte fewer than there is room for: a zero ends the name.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(MAX_NAME)) {
        *to = from as libc::c_char;
    }
    // All of these flags lie in the low 16 bits, the highest of them in the sign.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq, which outlives the call.
    unsafe { ioctl::set_interface(file.as_raw_fd(), &mut request) }.map(drop)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Whether the thread is in a network namespace of its own now, where it may make interfaces.
    fn alone() -> bool {
        let alone = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
        if let Err(error) = alone {
            eprintln!("SKIPPED: no network namespace: {error}");
        }
        alone.is_ok()
    }

    fn setting(path: &str) -> String {
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn flags(fd: &OwnedFd, what: nix::fcntl::FcntlArg) -> libc::c_int {
        nix::fcntl::fcntl(fd, what).unwrap()
    }

    #[test]
    fn a_device_lives_as_long_as_its_queues() {
        if !alone() {
            return;
        }
        for queues in [1, 4] {
            let mut descriptors = open_tap("hullt0", queues).unwrap();
            assert_eq!(descriptors.len(), usize::from(queues));
            for fd in &descriptors {
                assert_ne!(flags(fd, nix::fcntl::FcntlArg::F_GETFL) & libc::O_NONBLOCK, 0);
                assert_ne!(flags(fd, nix::fcntl::FcntlArg::F_GETFD) & libc::FD_CLOEXEC, 0);
            }
            let ipv6 = "/proc/sys/net/ipv6/conf/hullt0";
            assert_eq!(setting(&format!("{ipv6}/disable_ipv6")), "1");
            descriptors.truncate(1);
            assert!(Path::new(ipv6).exists());
            descriptors.clear();
            assert!(!Path::new(ipv6).exists());
        }
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        if !alone() {
            return;
        }
        for queues in [1, 2] {
            let _taken = open_tap("hullt0", queues).unwrap();
            for again in [1, 2] {
                let error = open_tap("hullt0", again).unwrap_err();
                assert!(matches!(error, TapError::Taken { .. }), "{error}");
            }
        }
        assert!(matches!(open_tap("lo", 1), Err(TapError::Taken { .. })));
        for name in ["", "tap%d", "../lo", "sixteen-bytes-it"] {
            assert!(matches!(open_tap(name, 1), Err(TapError::Name { .. })), "{name}");
        }
        for queues in [0, 257] {
            assert!(matches!(open_tap("hullt0", queues), Err(TapError::Queues { .. })));
        }
    }
}
