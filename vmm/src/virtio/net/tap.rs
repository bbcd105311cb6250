//! The host's end of a network device: a queue of a TAP device (Documentation/networking/tuntap.rst).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use thiserror::Error;
use vm_memory::VolatileSlice;

use super::HEADER_LEN;
use crate::virtio::vectors::vectors;

/// What the device needs of an interface: whole frames, each behind a `virtio_net_hdr`, and nothing else before them.
const NEEDED: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// A descriptor cannot serve as the host's end.
#[derive(Debug, Error)]
pub enum TapError {
    /// Not a queue of a TAP device, or of one that was made otherwise.
    #[error("descriptor {fd} is no TAP device made with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR: {reason}")]
    Kind {
        /// The descriptor.
        fd: RawFd,
        /// What it is instead.
        reason: String,
    },
    /// It would not be set up.
    #[error("cannot {action} of TAP device {name}: {source}")]
    SetUp {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// A queue of a TAP device.
pub(super) struct Tap {
    file: File,
    name: String,
    /// Whether the kernel gives it frames.
    attached: AtomicBool,
}

impl Tap {
    /// Takes over what the host made.
    pub(super) fn new(file: File) -> Result<Self, TapError> {
        let fd = file.as_raw_fd();
        // SAFETY: zeros are a request without a name.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF writes an ifreq, which outlives the call.
        let told = unsafe { libc::ioctl(fd, libc::TUNGETIFF, &mut request) };
        let kind = |reason: String| TapError::Kind { fd, reason };
        if told < 0 {
            return Err(kind(io::Error::last_os_error().to_string()));
        }
        // SAFETY: TUNGETIFF has set this field of the union; all its bit patterns are integers.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & NEEDED != NEEDED {
            return Err(kind(format!("its flags are {flags:#x}")));
        }
        let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
        let name = name.map(|byte| char::from(*byte as u8)).collect();
        let tap = Self {
            file,
            name,
            attached: AtomicBool::new(true),
        };
        fcntl_getfl(&tap.file)
            .and_then(|flags| fcntl_setfl(&tap.file, flags | OFlags::NONBLOCK))
            .map_err(|errno| tap.error("set the flags", errno.into()))?;
        Ok(tap)
    }

    /// Any file or socket that keeps frames apart, in place of a TAP device.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of_fuzzer(file: File) -> Self {
        Self {
            file,
            name: "fuzzer".to_owned(),
            attached: AtomicBool::new(true),
        }
    }

    /// Has the kernel put headers of the modern device's size before frames, and send only what the driver can take of
    /// `offloads` (`TUN_F_`).
    pub(super) fn set_offloads(&self, offloads: libc::c_uint) -> Result<(), TapError> {
        let len = HEADER_LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads an int, which outlives the call.
        let told = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &len) };
        self.checked(told, "set the header's size")?;
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let told = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(offloads),
            )
        };
        self.checked(told, "set the offloads")
    }

    /// Says whether the kernel may choose this queue of several for a frame.
    pub(super) fn attach(&self, wanted: bool) -> Result<(), TapError> {
        if self.attached.load(Ordering::Relaxed) == wanted {
            return Ok(());
        }
        // SAFETY: zeros are a request without a name and flags.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let flags = if wanted {
            libc::IFF_ATTACH_QUEUE
        } else {
            libc::IFF_DETACH_QUEUE
        };
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETQUEUE reads an ifreq, which outlives the call.
        let told = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETQUEUE, &request) };
        self.checked(told, "change the queues")?;
        self.attached.store(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Receives a frame and its header into `parts`, at most [`MAX_VECTORS`](crate::virtio::vectors::MAX_VECTORS); what does not
    /// fit is lost.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub(super) fn receive(&self, parts: &[VolatileSlice]) -> io::Result<usize> {
        let vectors = vectors(parts);
        // SAFETY: each vector is a range of guest memory, which outlives the call.
        let len = unsafe {
            libc::readv(
                self.file.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len() as libc::c_int,
            )
        };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    /// Sends a frame behind its header, both in `parts`, at most [`MAX_VECTORS`](crate::virtio::vectors::MAX_VECTORS). The kernel
    /// copies it before it looks at it.
    pub(super) fn send(&self, parts: &[VolatileSlice]) -> io::Result<usize> {
        let vectors = vectors(parts);
        // SAFETY: each vector is a range of guest memory, which outlives the call; the kernel only reads it.
        let len = unsafe {
            libc::writev(
                self.file.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len() as libc::c_int,
            )
        };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    fn checked(&self, told: libc::c_int, action: &'static str) -> Result<(), TapError> {
        match told {
            0.. => Ok(()),
            _ => Err(self.error(action, io::Error::last_os_error())),
        }
    }

    fn error(&self, action: &'static str, source: io::Error) -> TapError {
        TapError::SetUp {
            action,
            name: self.name.clone(),
            source,
        }
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
