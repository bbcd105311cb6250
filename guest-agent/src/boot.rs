//! What the guest is made ready with before there is a container.

use std::os::fd::{AsFd, OwnedFd};

use guest_protocol::{CONTROL_PORT, READY_PORT, STREAM_PORT};
use rustix::fs::{CWD, Mode, OFlags, mkdir, open, openat};
use rustix::io::{Errno, read, write};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::{chdir, chroot};

use crate::os_error::{During, OsError};
use crate::sys::{self, VsockAddress};

/// Connections that wait to be accepted; the kernel resets those beyond. Each exec opens up to three at a time.
const BACKLOG: i32 = 256;

/// The listening sockets for control and streams.
pub(crate) fn listeners() -> Result<(OwnedFd, OwnedFd), OsError> {
    Ok((listener(CONTROL_PORT)?, listener(STREAM_PORT)?))
}

fn listener(port: u32) -> Result<OwnedFd, OsError> {
    let subject = || format!("vsock port {port}");
    let socket = vsock().during("open", subject())?;
    bind(
        &socket,
        &VsockAddress {
            cid: VsockAddress::ANY,
            port,
        },
    )
    .during("bind", subject())?;
    listen(&socket, BACKLOG).during("listen on", subject())?;
    Ok(socket)
}

/// Begins the connection that tells the host that the agent listens. It is complete, and to be closed, when it can be
/// written to; until then there is other work to do.
pub(crate) fn announce() -> Result<OwnedFd, OsError> {
    let socket = vsock().during("open", "a vsock socket")?;
    match connect(
        &socket,
        &VsockAddress {
            cid: VsockAddress::HOST,
            port: READY_PORT,
        },
    ) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error).during("connect to", format!("the host's vsock port {READY_PORT}")),
    }
}

fn vsock() -> Result<OwnedFd, Errno> {
    socket_with(
        AddressFamily::VSOCK,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

/// Brings up the loopback interface; the kernel gives it its addresses.
pub(crate) fn bring_up_loopback() -> Result<(), OsError> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .during("open", "a socket")?;
    sys::bring_up(socket.as_fd(), c"lo").during("bring up", "the loopback interface")
}

/// Mounts what the agent itself needs.
pub(crate) fn mount_file_systems() -> Result<(), OsError> {
    make_root_movable().during("bind", "the root file system onto itself")?;
    for (kind, target) in [
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"devtmpfs", c"/dev"),
        (c"cgroup2", c"/sys/fs/cgroup"),
    ] {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(kind, target, kind, flags, None).during("mount", target.to_string_lossy())?;
    }
    enable_controllers()
}

/// pivot_root(2) refuses to move the kernel's first file system, which containers are to leave behind: so what the
/// agent calls its root is a mount of that over itself.
fn make_root_movable() -> Result<(), Errno> {
    match mkdir(c"/run", Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    mount_bind(c"/", c"/run")?;
    chdir(c"/run")?;
    mount_move(c".", c"/")?;
    chroot(c".")
}

/// Hands every cgroup controller there is down to the container's cgroup.
fn enable_controllers() -> Result<(), OsError> {
    const ROOT: &str = "/sys/fs/cgroup";
    let root = open(
        ROOT,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .during("open", ROOT)?;
    let listed = openat(
        &root,
        c"cgroup.controllers",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .during("open", "cgroup.controllers")?;
    let mut buffer = [0; 512];
    let count = read(&listed, &mut buffer).during("read", "cgroup.controllers")?;
    let wanted: Vec<String> = String::from_utf8_lossy(&buffer[..count])
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    let control = openat(
        &root,
        c"cgroup.subtree_control",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .during("open", "cgroup.subtree_control")?;
    write(&control, wanted.join(" ").as_bytes())
        .during("enable", "the cgroup controllers")
        .map(drop)
}

/// A directory of the agent's own, which may be there already.
pub(crate) fn make_directory(path: &str) -> Result<(), OsError> {
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).during("make the directory", path),
    }
}
