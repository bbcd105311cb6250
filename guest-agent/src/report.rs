//! What a process that is being started tells the agent, over a socket that its exec closes.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use guest_protocol::{CallError, ErrorKind, decode, encode};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};

/// Longer messages are cut: they carry paths, not data.
const MAX_MESSAGE: usize = 4096;

/// A message to the agent.
#[derive(Debug)]
pub(crate) enum Report {
    /// The agent's side of the process's terminal.
    Terminal(OwnedFd),
    /// The process could not be started.
    Failed(CallError),
    /// The socket is closed: the process runs its program, or is dead.
    Closed,
}

/// A pair of sockets: the agent's, which never waits, and the process's.
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (agent, process) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((agent, process))
}

/// Lets a process go on that waits in [`wait_for_release`].
pub(crate) fn release(socket: impl AsFd) -> Result<(), Errno> {
    send(socket, &[0], SendFlags::NOSIGNAL).map(drop)
}

/// Waits until the agent has done what it has to do to this process.
pub(crate) fn wait_for_release(socket: impl AsFd) -> Result<(), Errno> {
    match recv(socket, &mut [0; 1], RecvFlags::empty())? {
        (0, _) => Err(Errno::PIPE),
        _ => Ok(()),
    }
}

/// Hands the agent its side of a terminal.
pub(crate) fn send_terminal(socket: impl AsFd, controller: impl AsFd) -> Result<(), Errno> {
    let descriptors = [controller.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Tells the agent why the process could not be started.
pub(crate) fn send_failure(socket: impl AsFd, failure: &CallError) {
    let mut failure = failure.clone();
    let mut end = failure.message.len().min(MAX_MESSAGE - 64);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    failure.message.truncate(end);
    if let Ok(frame) = encode(&failure) {
        // Without a listener there is nobody left to tell.
        let _ = sendmsg(
            socket,
            &[IoSlice::new(&frame)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        );
    }
}

/// The next message, if there is one.
pub(crate) fn receive(socket: impl AsFd) -> Result<Option<Report>, Errno> {
    let mut buffer = [0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        result => result?,
    };
    if received.bytes == 0 {
        return Ok(Some(Report::Closed));
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(controller) = descriptors.next()
        {
            return Ok(Some(Report::Terminal(controller)));
        }
    }
    let failure = buffer[..received.bytes]
        .get(4..)
        .and_then(|payload| decode(payload).ok());
    Ok(Some(Report::Failed(failure.unwrap_or_else(|| CallError {
        kind: ErrorKind::Failed,
        message: "the process failed to start and its report could not be read".into(),
    }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_and_the_end_follows() {
        let (agent, process) = channel().unwrap();
        assert!(receive(&agent).unwrap().is_none());
        let failure = CallError {
            kind: ErrorKind::CommandNotFound,
            message: "no such thing".into(),
        };
        send_failure(&process, &failure);
        drop(process);
        assert!(matches!(receive(&agent).unwrap(), Some(Report::Failed(received)) if received == failure));
        assert!(matches!(receive(&agent).unwrap(), Some(Report::Closed)));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let (agent, process) = channel().unwrap();
        let failure = CallError {
            kind: ErrorKind::Failed,
            message: "ä".repeat(MAX_MESSAGE),
        };
        send_failure(&process, &failure);
        let Some(Report::Failed(received)) = receive(&agent).unwrap() else {
            panic!("no failure")
        };
        assert!(failure.message.starts_with(&received.message) && received.message.len() > 1000);
    }

    #[test]
    fn a_terminal_arrives_as_a_descriptor() {
        let (agent, process) = channel().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send_terminal(&process, &write).unwrap();
        drop(write);
        let Some(Report::Terminal(write)) = receive(&agent).unwrap() else {
            panic!("no terminal")
        };
        rustix::io::write(&write, b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0; 2]).unwrap(), 1);
    }
}
