//! The control connection: frames in, frames out, never waiting.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use guest_protocol::{FrameError, MAX_FRAME, Message, Request, decode, decode_length, encode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::poll::{EventFlags, Poller, Token, Watched};

const READ_SIZE: usize = 16 * 1024;

/// The connection that requests come from.
pub(crate) struct Control {
    socket: Watched,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// Why the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("the host closed the control connection")]
    Closed,
    #[error("the control connection failed: {0}")]
    Socket(#[from] Errno),
    #[error("on the control connection, {0}")]
    Frame(#[from] FrameError),
}

impl Control {
    pub(crate) fn new(poller: &Rc<Poller>, socket: OwnedFd) -> Result<Self, ControlError> {
        let socket = Watched::new(poller, socket, Token::Control, EventFlags::IN)?;
        Ok(Self {
            socket,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// Takes what has come.
    pub(crate) fn receive(&mut self) -> Result<(), ControlError> {
        let filled = self.input.len();
        self.input.resize(filled + READ_SIZE, 0);
        let received = recv(&self.socket, &mut self.input[filled..], RecvFlags::DONTWAIT);
        self.input
            .truncate(filled + received.as_ref().map_or(0, |(count, _)| *count));
        match received {
            Ok((0, _)) => return Err(ControlError::Closed),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.update()
    }

    /// The next request, once all of it is there. While the host does not read the answers there is none.
    pub(crate) fn next_request(&mut self) -> Result<Option<Request>, ControlError> {
        let Some(prefix) = self.input.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = 4 + decode_length(*prefix)?;
        if self.input.len() < length || self.output.len() > MAX_FRAME {
            return Ok(None);
        }
        let request = decode(&self.input[4..length])?;
        self.input.drain(..length);
        self.update()?;
        Ok(Some(request))
    }

    /// Sends a message, now or as soon as the host takes it.
    pub(crate) fn send(&mut self, message: &Message) -> Result<(), ControlError> {
        self.output.extend_from_slice(&encode(message)?);
        self.flush()
    }

    /// Goes on sending.
    pub(crate) fn flush(&mut self) -> Result<(), ControlError> {
        while !self.output.is_empty() {
            match send(
                &self.socket,
                &self.output,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.update()
    }

    /// Reads on while there is less than a frame waiting, which bounds the memory a flood of requests takes.
    fn update(&mut self) -> Result<(), ControlError> {
        let mut interest = EventFlags::empty();
        if self.input.len() < 4 + MAX_FRAME {
            interest |= EventFlags::IN;
        }
        if !self.output.is_empty() {
            interest |= EventFlags::OUT;
        }
        Ok(self.socket.watch(interest)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::{Call, Reply, read_frame, write_frame};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn rig() -> (UnixStream, Control) {
        let (host, agent) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        (host.into(), Control::new(&Poller::new().unwrap(), agent).unwrap())
    }

    #[test]
    fn requests_sent_together_come_one_by_one() {
        let (mut host, mut control) = rig();
        for id in 0..3 {
            write_frame(
                &mut host,
                &Request {
                    id,
                    call: Call::State,
                },
            )
            .unwrap();
        }
        host.write_all(&[9, 0]).unwrap();
        control.receive().unwrap();
        for id in 0..3 {
            assert_eq!(control.next_request().unwrap().unwrap().id, id);
        }
        assert!(control.next_request().unwrap().is_none());
    }

    #[test]
    fn an_answer_reaches_the_host() {
        let (mut host, mut control) = rig();
        let message = Message::Response {
            id: 3,
            result: Ok(Reply::Done),
        };
        control.send(&message).unwrap();
        assert_eq!(read_frame::<Message>(&mut host).unwrap(), Some(message));
    }

    #[test]
    fn a_frame_over_the_limit_ends_the_connection() {
        let (mut host, mut control) = rig();
        host.write_all(&u32::MAX.to_le_bytes()).unwrap();
        control.receive().unwrap();
        assert!(matches!(
            control.next_request(),
            Err(ControlError::Frame(FrameError::TooLong(_)))
        ));
    }

    #[test]
    fn a_host_that_does_not_read_its_answers_is_not_served_further() {
        let (mut host, mut control) = rig();
        let state = Message::Response {
            id: 1,
            result: Err(guest_protocol::CallError {
                kind: guest_protocol::ErrorKind::Failed,
                message: "x".repeat(MAX_FRAME - 100),
            }),
        };
        while control.output.len() <= MAX_FRAME {
            control.send(&state).unwrap();
        }
        write_frame(
            &mut host,
            &Request {
                id: 1,
                call: Call::State,
            },
        )
        .unwrap();
        control.receive().unwrap();
        assert!(control.next_request().unwrap().is_none());
    }

    #[test]
    fn the_end_of_the_connection_is_noticed() {
        let (host, mut control) = rig();
        drop(host);
        assert!(matches!(control.receive(), Err(ControlError::Closed)));
    }
}
