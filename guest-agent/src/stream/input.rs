//! Input of a process, coming from the host.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use guest_protocol::{StreamHello, StreamReply};
use rustix::io::{Errno, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::poll::{EventFlags, Poller, Token, Watched};

/// How many bytes are taken from the connection before they are written to the process.
const CHUNK: usize = 64 * 1024;

/// stdin of a process.
pub(crate) struct Input {
    sink: Sink,
    terminal: bool,
    /// Taken from a connection and not yet written, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// The host has sent the end of file; it follows what is pending.
    ended: bool,
    connection: Option<Watched>,
}

enum Sink {
    /// The process is being started.
    Pending,
    /// The write end of a pipe, or the controlling side of a terminal.
    Open(Watched),
    /// The process has closed it, or has got its end of file.
    Closed,
}

impl Input {
    /// A stream whose sink is not there yet.
    pub(crate) fn pending(terminal: bool) -> Self {
        let connection = None;
        Self {
            sink: Sink::Pending,
            terminal,
            pending: Vec::new(),
            written: 0,
            ended: false,
            connection,
        }
    }

    /// Gives it its sink, a non-blocking descriptor.
    pub(crate) fn open(&mut self, poller: &Rc<Poller>, sink: OwnedFd, token: Token) -> Result<(), Errno> {
        self.sink = Sink::Open(Watched::new(poller, sink, token, EventFlags::empty())?);
        self.update();
        Ok(())
    }

    /// Lets a connection take the place of the one before.
    pub(crate) fn connect(&mut self, mut socket: Watched, hello: &StreamHello) {
        if self.ended || matches!(self.sink, Sink::Closed) {
            super::reply(
                &socket,
                &StreamReply::Refused("the process's stdin is closed".into()),
            );
            return;
        }
        self.connection = None;
        let token = Token::Connection(hello.process, hello.stream);
        if super::reply(&socket, &StreamReply::Ready)
            && socket.watch(EventFlags::empty()).is_ok()
            && socket.rename(token).is_ok()
        {
            self.connection = Some(socket);
        }
        self.update();
    }

    /// Closes both ends: the process is gone.
    pub(crate) fn close(&mut self) {
        self.sink = Sink::Closed;
        self.connection = None;
        self.pending = Vec::new();
    }

    /// The connection has bytes or its end.
    pub(crate) fn connection_ready(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.pending.is_empty() && matches!(self.sink, Sink::Open(_)) {
            self.pending.resize(CHUNK, 0);
            let received = recv(connection, self.pending.as_mut_slice(), RecvFlags::DONTWAIT);
            self.pending
                .truncate(received.as_ref().map_or(0, |(count, _)| *count));
            self.written = 0;
            match received {
                Ok((0, _)) => {
                    self.ended = is_half_closed(connection) && !self.terminal;
                    self.connection = None;
                }
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                // Broken off: another connection may go on.
                Err(_) => self.connection = None,
            }
        }
        self.sink_ready();
    }

    /// The process takes bytes again.
    pub(crate) fn sink_ready(&mut self) {
        if let Sink::Open(sink) = &self.sink
            && self.written < self.pending.len()
        {
            match write(sink, &self.pending[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                // EPIPE: nobody will ever read it.
                Err(_) => self.close(),
            }
        }
        if self.written == self.pending.len() {
            self.pending.clear();
            self.written = 0;
            if self.ended {
                self.close();
            }
        }
        self.update();
    }

    /// Takes from the connection only when everything taken before is written: this is the back-pressure.
    fn update(&mut self) {
        let Sink::Open(sink) = &mut self.sink else { return };
        let writing = !self.pending.is_empty();
        let mut failed = sink
            .watch(if writing {
                EventFlags::OUT
            } else {
                EventFlags::empty()
            })
            .is_err();
        if let Some(connection) = &mut self.connection {
            failed |= connection
                .watch(if writing {
                    EventFlags::empty()
                } else {
                    EventFlags::IN
                })
                .is_err();
        }
        if failed {
            self.close();
        }
    }
}

/// Whether a connection that has ended was closed in one direction only. One that is gone altogether refuses to send,
/// even nothing; both vsock and unix sockets check that before they look at the length.
fn is_half_closed(connection: &Watched) -> bool {
    send(connection, &[], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::{StreamKind, read_frame};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    const PIPE: Token = Token::Pipe(1, StreamKind::Stdin);

    struct Rig {
        poller: Rc<Poller>,
        input: Input,
        reader: std::fs::File,
    }

    impl Rig {
        fn new() -> Self {
            let poller = Poller::new().unwrap();
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            let mut input = Input::pending(false);
            input.open(&poller, write, PIPE).unwrap();
            Self {
                poller,
                input,
                reader: read.into(),
            }
        }

        fn connect(&mut self) -> (UnixStream, StreamReply) {
            let (host, agent) = socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )
            .unwrap();
            let hello = StreamHello {
                process: 1,
                stream: StreamKind::Stdin,
                offset: 0,
            };
            let agent = Watched::new(&self.poller, agent, Token::Greeting(0), EventFlags::IN).unwrap();
            self.input.connect(agent, &hello);
            let mut host = UnixStream::from(host);
            let reply = read_frame(&mut host).unwrap().unwrap();
            (host, reply)
        }

        fn settle(&mut self) {
            let mut events = Vec::with_capacity(8);
            let now = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            loop {
                let tokens = self.poller.wait(&mut events, Some(&now)).unwrap();
                if tokens.is_empty() {
                    return;
                }
                for token in tokens {
                    if token == PIPE {
                        self.input.sink_ready()
                    } else {
                        self.input.connection_ready()
                    }
                }
            }
        }

        fn read(&mut self) -> Option<Vec<u8>> {
            let mut buffer = vec![0; 1 << 20];
            match self.reader.read(&mut buffer) {
                Ok(count) => {
                    buffer.truncate(count);
                    Some(buffer)
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_half_close_is_the_end_of_file_and_a_broken_connection_is_not() {
        let mut rig = Rig::new();
        let (mut host, _) = rig.connect();
        host.write_all(b"one ").unwrap();
        drop(host);
        rig.settle();
        assert_eq!(rig.read().unwrap(), b"one ");
        assert_eq!(rig.read(), None, "the process must not see an end of file");
        let (mut host, reply) = rig.connect();
        assert_eq!(reply, StreamReply::Ready);
        host.write_all(b"two").unwrap();
        host.shutdown(Shutdown::Write).unwrap();
        rig.settle();
        assert_eq!(rig.read().unwrap(), b"two");
        assert_eq!(rig.read().unwrap(), b"");
        assert!(matches!(rig.connect().1, StreamReply::Refused(_)));
    }

    #[test]
    fn a_process_that_does_not_read_holds_the_host_back_and_loses_nothing() {
        let mut rig = Rig::new();
        let (mut host, _) = rig.connect();
        let sent: Vec<u8> = (0..600_000u32).map(|n| (n % 251) as u8).collect();
        let bytes = sent.clone();
        let writer = std::thread::spawn(move || {
            host.write_all(&bytes).unwrap();
            host.shutdown(Shutdown::Write).unwrap();
            host
        });
        let mut received = Vec::new();
        loop {
            rig.settle();
            assert!(rig.input.pending.len() <= CHUNK);
            match rig.read() {
                Some(bytes) if bytes.is_empty() => break,
                Some(bytes) => received.extend(bytes),
                None => std::thread::yield_now(),
            }
        }
        writer.join().unwrap();
        assert!(received == sent);
    }

    #[test]
    fn a_process_that_closes_its_stdin_ends_the_connection() {
        let mut rig = Rig::new();
        let (mut host, _) = rig.connect();
        let (read, _) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rig.reader = read.into();
        host.write_all(b"x").unwrap();
        rig.settle();
        assert_eq!(host.read(&mut [0]).unwrap(), 0);
        assert!(matches!(rig.connect().1, StreamReply::Refused(_)));
    }
}
