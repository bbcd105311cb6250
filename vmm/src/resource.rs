//! What the VMM may use: descriptors it inherits and paths its spec names.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use thiserror::Error;
use vm_spec::Resource;

/// A resource of the spec could not be used.
#[derive(Debug, Error)]
pub enum ResourceError {
    /// A path could not be opened.
    #[error("cannot open {path}: {source}", path = path.display())]
    Open {
        /// The path.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path could not be bound.
    #[error("cannot listen on {path}: {source}", path = path.display())]
    Listen {
        /// The path.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A descriptor number is not an open descriptor.
    #[error("descriptor {fd} of the spec is not open: {source}")]
    NotOpen {
        /// The number.
        fd: RawFd,
        /// Why.
        source: io::Error,
    },
    /// A descriptor number that the VMM uses itself.
    #[error("descriptor {fd} of the spec is a standard stream; hand over numbers from 3 on")]
    Standard {
        /// The number.
        fd: RawFd,
    },
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing; the file exists.
    ReadWrite,
    /// Writing at the end; made when it does not exist.
    Append,
}

/// Opens a file. A descriptor is taken over as it is; each may be named once in a spec.
pub fn open(resource: &Resource, access: Access) -> Result<File, ResourceError> {
    let path = match resource {
        Resource::Fd(fd) => return Ok(File::from(take(*fd)?)),
        Resource::Path(path) => path,
    };
    let mut options = OpenOptions::new();
    match access {
        Access::Read => options.read(true),
        Access::ReadWrite => options.read(true).write(true),
        Access::Append => options.append(true).create(true),
    };
    options.open(path).map_err(|source| ResourceError::Open {
        path: path.clone(),
        source,
    })
}

/// A listening unix socket: taken over, or bound to its path (which must not exist yet).
pub fn listen(resource: &Resource) -> Result<UnixListener, ResourceError> {
    match resource {
        Resource::Fd(fd) => Ok(UnixListener::from(take(*fd)?)),
        Resource::Path(path) => UnixListener::bind(path).map_err(|source| ResourceError::Listen {
            path: path.clone(),
            source,
        }),
    }
}

/// Takes over an inherited descriptor and marks it close-on-exec.
fn take(fd: RawFd) -> Result<OwnedFd, ResourceError> {
    if fd <= libc::STDERR_FILENO {
        return Err(ResourceError::Standard { fd });
    }
    // SAFETY: fcntl on a number touches no memory; one that is not open gives EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(ResourceError::NotOpen {
            fd,
            source: io::Error::last_os_error(),
        });
    }
    // SAFETY: the descriptor is open, and by the contract of the spec, which names each number once (`spec::validate`
    // refuses others), nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
