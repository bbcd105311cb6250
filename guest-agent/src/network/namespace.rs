//! Network namespaces: the microVM's own, and the reserve, where its network devices are until they are needed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netlink::Netlink;
use crate::os_error::{During, OsError};
use crate::sys;

/// This thread's.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace.
pub(super) struct Namespace {
    /// Keeps it there, and names it to the kernel.
    pub(super) fd: OwnedFd,
    pub(super) netlink: Netlink,
}

impl Namespace {
    /// The one that this thread is in.
    fn current() -> Result<Self, OsError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self {
            fd: open(CURRENT, flags, Mode::empty()).during("open", CURRENT)?,
            netlink: Netlink::open().during("open", "a netlink socket")?,
        })
    }
}

/// Both of them.
pub(super) struct Namespaces {
    /// The microVM's, which is the container's.
    pub(super) own: Namespace,
    /// Where nothing is but network devices that are not connected, all of them down.
    pub(super) reserve: Namespace,
}

impl Namespaces {
    /// Makes the reserve.
    pub(super) fn make() -> Result<Self, OsError> {
        let own = Namespace::current()?;
        sys::new_network_namespace().during("make", "a network namespace")?;
        let reserve = Namespace::current();
        // Whatever came of it, this thread is not to stay there.
        move_into_link_name_space(own.fd.as_fd(), Some(LinkNameSpaceType::Network))
            .during("return to", "the microVM's network namespace")?;
        Ok(Self {
            own,
            reserve: reserve?,
        })
    }
}
