//! The user namespace of a container that asks for one: its root is an ordinary user of the guest.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, open};
use rustix::io::write;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::os_error::{During, OsError};
use crate::sys::{self, Fork};

/// The guest's id for the container's id 0; all others follow.
pub(crate) const FIRST_ID: u32 = 100_000;
/// How many ids a container has.
pub(crate) const COUNT: u32 = 65_536;

/// A user namespace with the container's mapping of ids, for mounts. Each container's init makes another, with the same
/// mapping, together with the namespaces that belong to it.
pub(crate) struct UserNamespace(OwnedFd);

impl UserNamespace {
    /// Makes one; it takes a process that lives for a moment.
    pub(crate) fn create() -> Result<Self, OsError> {
        match sys::fork_into(libc::CLONE_NEWUSER, None).during("make", "a user namespace")? {
            Fork::Child => sys::wait_to_be_killed(),
            Fork::Parent { pid, pidfd } => {
                let namespace = map_ids(pid).and_then(|()| {
                    let path = format!("/proc/{pid}/ns/user");
                    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during("open", path)
                });
                let _ = sys::signal_process(pidfd.as_fd(), libc::SIGKILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
                namespace.map(Self)
            }
        }
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives the process, new in a user namespace of its own, its ids there.
pub(crate) fn map_ids(pid: Pid) -> Result<(), OsError> {
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        let map = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).during("open", &path)?;
        write(&map, format!("0 {FIRST_ID} {COUNT}").as_bytes()).during("write", path)?;
    }
    Ok(())
}

/// Makes this process root of the user namespace that it is in.
pub(crate) fn become_root() -> Result<(), OsError> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[]).during("drop", "the supplementary groups")?;
    set_thread_res_gid(gid, gid, gid).during("become", "group 0")?;
    set_thread_res_uid(uid, uid, uid).during("become", "user 0")
}
