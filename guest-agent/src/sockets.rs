//! The sockets given to the container: the agent listens, and each connection is served by a task that the host has started.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use guest_protocol::{ACCEPTED, Socket};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chmodat, chownat, open, unlink};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, socket_with};

use crate::boot::make_directory;
use crate::mounts;
use crate::os_error::{During, OsError};
use crate::user_namespace::FIRST_ID;

/// Where they are, each named by its index.
const SOCKETS: &str = "/run/sockets";
/// Connections that wait for a task.
const BACKLOG: i32 = 128;

/// Bytes that are read at once.
const PIECE: usize = 16 * 1024;

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("cannot carry a connection to a socket: {0}")]
    Carry(#[from] io::Error),
}

/// All of them. When this is dropped nobody can connect any more.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    listeners: Vec<OwnedFd>,
}

impl Sockets {
    /// Makes them before there is a process of the container. In a user namespace their owners are those of it.
    pub(crate) fn give(sockets: &[Socket], user_namespace: bool) -> Result<Self, OsError> {
        let mut given = Self::default();
        if sockets.is_empty() {
            return Ok(given);
        }
        make_directory(SOCKETS)?;
        let first = if user_namespace { FIRST_ID } else { 0 };
        for (index, socket) in sockets.iter().enumerate() {
            let path = path(index);
            let listener = listen(&path, socket, first);
            if listener.is_err() {
                let _ = unlink(&path);
            }
            given
                .listeners
                .push(listener.during("make the socket", &socket.target)?);
        }
        Ok(given)
    }

    /// What listens on one of them.
    pub(crate) fn listener(&self, index: u32) -> Option<BorrowedFd<'_>> {
        let listener = self.listeners.get(usize::try_from(index).ok()?)?;
        Some(listener.as_fd())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for index in 0..self.listeners.len() {
            // A name that stays would be in the way of the next container, which is told so.
            let _ = unlink(path(index));
        }
    }
}

fn listen(path: &str, socket: &Socket, first_id: u32) -> Result<OwnedFd, Errno> {
    let listener = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    let owner = Uid::from_raw(first_id.saturating_add(socket.uid));
    let group = Gid::from_raw(first_id.saturating_add(socket.gid));
    chownat(CWD, path, Some(owner), Some(group), AtFlags::empty())?;
    chmodat(
        CWD,
        path,
        Mode::from_raw_mode(socket.mode & 0o777),
        AtFlags::empty(),
    )?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn path(index: usize) -> String {
    format!("{SOCKETS}/{index}")
}

/// A mount of each, in their order, for a process in a mount namespace of its own that is a copy of the agent's.
pub(crate) fn bind_all(sockets: &[Socket]) -> Result<Vec<OwnedFd>, OsError> {
    let bind = |(index, socket): (usize, &Socket)| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = open(path(index), flags, Mode::empty()).during("open the socket", &socket.target)?;
        mounts::bind(&fd).during("bind the socket", &socket.target)
    };
    sockets.iter().enumerate().map(bind).collect()
}

/// Answers [`guest_protocol::Task::Accept`].
pub(crate) fn accept(listener: BorrowedFd<'_>, mut input: File, mut output: File) -> Result<(), AcceptError> {
    let connection =
        accept_with(listener, SocketFlags::CLOEXEC).during("accept", "a connection to a socket")?;
    let mut from = UnixStream::from(connection);
    output.write_all(&[ACCEPTED])?;
    let mut to = from.try_clone()?;
    let sending = thread::spawn(move || {
        // Who does not want to hear more may still have something to say.
        let _ = carry(&mut input, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let received = carry(&mut from, &mut output);
    drop(output);
    let _ = sending.join();
    received?;
    Ok(())
}

/// Carries bytes from one to the other until there are no more. [`io::copy`] would splice a socket into a pipe, which does not wake
/// who waits for the pipe with epoll.
fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn a_connection_is_carried_until_both_directions_have_ended() {
        let folder = std::env::temp_dir().join(format!("sockets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("listener");
        let listener = UnixListener::bind(&path).unwrap();
        let (input, to_task) = pipe().unwrap();
        let (from_task, output) = pipe().unwrap();
        let task = thread::spawn(move || accept(listener.as_fd(), input.into(), output.into()));
        let (mut to_task, mut from_task) = (File::from(to_task), File::from(from_task));

        let mut client = UnixStream::connect(&path).unwrap();
        let mut first = [0];
        from_task.read_exact(&mut first).unwrap();
        assert_eq!(first, [ACCEPTED], "told before anything is sent");
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut request = String::new();
        from_task.read_to_string(&mut request).unwrap();
        assert_eq!(request, "request");
        to_task.write_all(b"answer").unwrap();
        drop(to_task);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(
            answer, "answer",
            "although the client has said that it sends no more"
        );
        task.join().unwrap().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
