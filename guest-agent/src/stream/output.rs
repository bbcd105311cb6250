//! Output of a process, on its way to the host.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use guest_protocol::{STREAM_WINDOW, StreamHello, StreamReply};
use rustix::io::{Errno, readv};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::pace::Pace;
use super::ring::Ring;
use crate::poll::{EventFlags, Poller, Token, Watched};

/// stdout or stderr of a process.
pub(crate) struct Output {
    ring: Ring,
    source: Source,
    pace: Pace,
    connection: Option<Connection>,
}

enum Source {
    /// The process is being started.
    Pending,
    /// The read end of a pipe, or the controlling side of a terminal.
    Open(Watched),
    /// Everyone who could write has closed it.
    Ended,
}

struct Connection {
    socket: Watched,
    /// The offset of the next byte to send.
    sent: u64,
    /// The part of an acknowledgement that has come.
    partial: Vec<u8>,
    /// The socket took no more.
    blocked: bool,
    /// The end of the stream was sent.
    finished: bool,
}

impl Output {
    /// A stream whose source is not there yet.
    pub(crate) fn pending() -> Self {
        Self {
            ring: Ring::new(STREAM_WINDOW as usize),
            source: Source::Pending,
            pace: Pace::default(),
            connection: None,
        }
    }

    /// Gives it its source, a non-blocking descriptor.
    pub(crate) fn open(&mut self, poller: &Rc<Poller>, source: OwnedFd, token: Token) -> Result<(), Errno> {
        self.source = Source::Open(Watched::new(poller, source, token, EventFlags::IN)?);
        Ok(())
    }

    /// Lets a connection take the place of the one before.
    pub(crate) fn connect(&mut self, mut socket: Watched, hello: &StreamHello) {
        if !(self.ring.start()..=self.ring.end()).contains(&hello.offset) {
            let message = format!(
                "offset {} of the stream is not kept; it has {} to {}",
                hello.offset,
                self.ring.start(),
                self.ring.end()
            );
            super::reply(&socket, &StreamReply::Refused(message));
            return;
        }
        self.connection = None;
        let token = Token::Connection(hello.process, hello.stream);
        if !super::reply(&socket, &StreamReply::Ready) || socket.rename(token).is_err() {
            return;
        }
        self.ring.release(hello.offset);
        let connection = Connection {
            socket,
            sent: hello.offset,
            partial: Vec::new(),
            blocked: false,
            finished: false,
        };
        self.connection = Some(connection);
        self.forward();
    }

    /// The source has something to say: takes at most as much as there is room for.
    pub(crate) fn source_ready(&mut self) {
        let Source::Open(source) = &self.source else {
            return;
        };
        let (first, second) = self.ring.vacant();
        if first.is_empty() {
            self.forward();
            return;
        }
        match readv(source, &mut [IoSliceMut::new(first), IoSliceMut::new(second)]) {
            Ok(0) => self.source = Source::Ended,
            Ok(count) => {
                self.ring.filled(count);
                self.pace.after_read(Instant::now(), count);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO is how a terminal says that its other side is closed.
            Err(_) => self.source = Source::Ended,
        }
        self.forward();
    }

    /// When the source is to be read again although nobody watches it.
    pub(crate) fn rest_until(&self) -> Option<Instant> {
        self.pace.rest_until()
    }

    /// Reads the source again when it has rested for long enough.
    pub(crate) fn end_rest(&mut self, now: Instant) {
        if self.pace.end_rest(now) {
            self.source_ready();
        }
    }

    /// Up to where the host has everything.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.ring.start()
    }

    /// The connection has acknowledgements, takes bytes again, or has ended.
    pub(crate) fn connection_ready(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        connection.blocked = false;
        if connection.acknowledge(&mut self.ring).is_err() {
            self.connection = None;
        }
        self.forward();
    }

    /// Sends what can be sent, and watches for just what can make a difference.
    fn forward(&mut self) {
        let ended = matches!(self.source, Source::Ended);
        if let Some(connection) = &mut self.connection
            && connection.send(&self.ring, ended).is_err()
        {
            self.connection = None;
        }
        if let Source::Open(source) = &mut self.source {
            let interest = if self.ring.is_full() || self.pace.rest_until().is_some() {
                EventFlags::empty()
            } else {
                EventFlags::IN
            };
            if source.watch(interest).is_err() {
                self.source = Source::Ended;
            }
        }
    }
}

/// The connection is of no use any more.
struct Broken;

impl From<Errno> for Broken {
    fn from(_: Errno) -> Self {
        Self
    }
}

impl Connection {
    fn acknowledge(&mut self, ring: &mut Ring) -> Result<(), Broken> {
        let mut buffer = [0; 512];
        match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Broken),
            Ok((count, _)) => {
                self.partial.extend_from_slice(&buffer[..count]);
                let whole = self.partial.len() / 8 * 8;
                for offset in self.partial[..whole].as_chunks::<8>().0 {
                    let offset = u64::from_le_bytes(*offset);
                    if offset > self.sent {
                        return Err(Broken);
                    }
                    ring.release(offset);
                }
                self.partial.drain(..whole);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Broken),
        }
    }

    fn send(&mut self, ring: &Ring, ended: bool) -> Result<(), Broken> {
        while !self.blocked {
            let bytes = ring.bytes_from(self.sent);
            if bytes.is_empty() {
                break;
            }
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count as u64,
                Err(Errno::AGAIN) => self.blocked = true,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Broken),
            }
        }
        if ended && !self.finished && self.sent == ring.end() {
            shutdown(self.socket.as_fd(), Shutdown::Write)?;
            self.finished = true;
        }
        let interest = if self.blocked {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        Ok(self.socket.watch(interest)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::{StreamKind, read_frame};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::{Read, Write};
    use std::net::Shutdown as Half;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const PIPE: Token = Token::Pipe(1, StreamKind::Stdout);

    struct Rig {
        poller: Rc<Poller>,
        output: Output,
        writer: Option<std::fs::File>,
    }

    impl Rig {
        fn new() -> Self {
            let poller = Poller::new().unwrap();
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            let mut output = Output::pending();
            output.open(&poller, read, PIPE).unwrap();
            Self {
                poller,
                output,
                writer: Some(write.into()),
            }
        }

        fn connect(&mut self, offset: u64) -> (UnixStream, StreamReply) {
            let (host, agent) = socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )
            .unwrap();
            let hello = StreamHello {
                process: 1,
                stream: StreamKind::Stdout,
                offset,
            };
            let agent = Watched::new(&self.poller, agent, Token::Greeting(0), EventFlags::IN).unwrap();
            self.output.connect(agent, &hello);
            let mut host = UnixStream::from(host);
            host.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let reply = read_frame(&mut host).unwrap().unwrap();
            (host, reply)
        }

        /// Handles what is ready until nothing is.
        fn settle(&mut self) {
            let mut events = Vec::with_capacity(8);
            let now = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            loop {
                let tokens = self.poller.wait(&mut events, Some(&now)).unwrap();
                let resting = self.output.rest_until().is_some();
                self.output.end_rest(Instant::now());
                if tokens.is_empty() && !resting {
                    return;
                }
                for token in tokens {
                    if token == PIPE {
                        self.output.source_ready()
                    } else {
                        self.output.connection_ready()
                    }
                }
            }
        }

        fn write(&mut self, bytes: &[u8]) -> usize {
            self.writer.as_mut().unwrap().write(bytes).unwrap_or(0)
        }
    }

    fn read(host: &mut UnixStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        host.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn bytes_written_before_anyone_connects_are_sent_from_the_beginning_and_the_end_follows() {
        let mut rig = Rig::new();
        rig.write(b"hello");
        rig.writer = None;
        rig.settle();
        let (mut host, reply) = rig.connect(0);
        assert_eq!(reply, StreamReply::Ready);
        let mut all = Vec::new();
        host.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"hello");
    }

    #[test]
    fn a_new_connection_goes_on_where_the_host_asks() {
        let mut rig = Rig::new();
        rig.write(b"0123456789");
        rig.settle();
        let (mut host, _) = rig.connect(0);
        assert_eq!(read(&mut host, 10), b"0123456789");
        host.write_all(&4u64.to_le_bytes()).unwrap();
        drop(host);
        rig.settle();
        assert!(rig.output.connection.is_none());
        let (mut host, reply) = rig.connect(6);
        assert_eq!(reply, StreamReply::Ready);
        assert_eq!(read(&mut host, 4), b"6789");
    }

    #[test]
    fn an_offset_that_was_acknowledged_or_never_written_is_refused() {
        let mut rig = Rig::new();
        rig.write(b"0123456789");
        rig.settle();
        let (mut host, _) = rig.connect(0);
        read(&mut host, 10);
        host.write_all(&4u64.to_le_bytes()).unwrap();
        rig.settle();
        assert!(matches!(rig.connect(3).1, StreamReply::Refused(_)));
        assert!(matches!(rig.connect(11).1, StreamReply::Refused(_)));
        rig.write(b"a");
        rig.settle();
        assert_eq!(
            read(&mut host, 1),
            b"a",
            "a refused connection must not disturb the one there is"
        );
    }

    #[test]
    fn the_process_waits_when_the_window_is_full_and_goes_on_when_it_is_acknowledged() {
        let mut rig = Rig::new();
        let (mut host, _) = rig.connect(0);
        let window = STREAM_WINDOW as usize;
        let reader = std::thread::spawn(move || {
            let bytes = read(&mut host, window);
            (host, bytes)
        });
        let chunk = [7u8; 4096];
        let mut taken = 0;
        // The host reads everything and acknowledges nothing.
        while taken < window + 16 * 4096 {
            match rig.write(&chunk) {
                0 => {
                    rig.settle();
                    if rig.output.ring.is_full() {
                        break;
                    }
                }
                count => taken += count,
            }
        }
        while !reader.is_finished() {
            rig.settle();
        }
        let (mut host, _) = reader.join().unwrap();
        assert!(rig.output.ring.is_full());
        assert_eq!(rig.output.ring.end(), STREAM_WINDOW);
        host.write_all(&STREAM_WINDOW.to_le_bytes()).unwrap();
        rig.write(b"x");
        rig.settle();
        assert!(rig.output.ring.end() > STREAM_WINDOW);
    }

    #[test]
    fn an_acknowledgement_of_bytes_never_sent_ends_the_connection_and_drops_nothing() {
        let mut rig = Rig::new();
        rig.write(b"hello");
        rig.settle();
        let (mut host, _) = rig.connect(0);
        host.write_all(&6u64.to_le_bytes()).unwrap();
        rig.settle();
        assert!(rig.output.connection.is_none());
        let (mut host, _) = rig.connect(0);
        assert_eq!(read(&mut host, 5), b"hello");
        host.shutdown(Half::Both).unwrap();
    }
}
