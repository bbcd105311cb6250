//! The streams of a process: what the host reads and writes, kept across connections that break.

mod input;
mod output;
mod pace;
mod ring;

pub(crate) use input::Input;
pub(crate) use output::Output;

use std::os::fd::AsFd;

use guest_protocol::{FrameError, StreamHello, StreamReply, decode, decode_length, encode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Longer than any [`StreamHello`].
const MAX_HELLO: usize = 64;

/// A stream connection whose first frame is on its way.
pub(crate) struct Greeting {
    received: Vec<u8>,
}

/// Why a stream connection was given up before it carried bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error("the connection ended before its first frame was complete")]
    Ended,
    #[error("the first frame is longer than a hello can be")]
    TooLong,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("cannot read the first frame: {0}")]
    Read(#[from] Errno),
}

impl Greeting {
    pub(crate) fn new() -> Self {
        Self { received: Vec::new() }
    }

    /// Reads what has come; `None` means that more is to come. Not a byte after the frame is touched: it belongs to
    /// the stream.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> Result<Option<StreamHello>, GreetingError> {
        loop {
            let wanted = match self.received.first_chunk::<4>() {
                None => 4,
                Some(prefix) => 4 + decode_length(*prefix)?,
            };
            if wanted > MAX_HELLO {
                return Err(GreetingError::TooLong);
            }
            if wanted > 4 && self.received.len() == wanted {
                return Ok(Some(decode(&self.received[4..])?));
            }
            if wanted == 4 && self.received.len() == 4 {
                return Err(GreetingError::TooLong);
            }
            let mut buffer = [0; MAX_HELLO];
            let (count, _) = match recv(
                &socket,
                &mut buffer[..wanted - self.received.len()],
                RecvFlags::DONTWAIT,
            ) {
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                result => result?,
            };
            if count == 0 {
                return Err(GreetingError::Ended);
            }
            self.received.extend_from_slice(&buffer[..count]);
        }
    }
}

/// Answers a hello. The socket's buffer is empty, so that a reply which does not fit at once means a broken connection.
pub(crate) fn reply(socket: impl AsFd, reply: &StreamReply) -> bool {
    let Ok(frame) = encode(reply) else { return false };
    send(socket, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok_and(|count| count == frame.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::StreamKind;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, UnixStream) {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        (a.into(), b.into())
    }

    #[test]
    fn a_hello_in_pieces_is_read_and_what_follows_it_is_left() {
        let hello = StreamHello {
            process: 300,
            stream: StreamKind::Stdin,
            offset: 1 << 40,
        };
        let frame = encode(&hello).unwrap();
        let (mut host, mut agent) = pair();
        let mut greeting = Greeting::new();
        for byte in &frame[..frame.len() - 1] {
            host.write_all(&[*byte]).unwrap();
            assert!(greeting.receive(&agent).unwrap().is_none());
        }
        host.write_all(&frame[frame.len() - 1..]).unwrap();
        host.write_all(b"data").unwrap();
        assert_eq!(greeting.receive(&agent).unwrap(), Some(hello));
        let mut rest = [0; 4];
        agent.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"data");
    }

    #[test]
    fn an_endless_or_cut_hello_is_refused() {
        let (mut host, agent) = pair();
        host.write_all(&1000u32.to_le_bytes()).unwrap();
        assert!(matches!(
            Greeting::new().receive(&agent),
            Err(GreetingError::TooLong)
        ));
        let (host, agent) = pair();
        drop(host);
        assert!(matches!(
            Greeting::new().receive(&agent),
            Err(GreetingError::Ended)
        ));
    }
}
