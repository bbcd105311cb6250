//! A connection that the daemon handed over after `101 Switching Protocols`.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::last_word::LastWord;

/// A plain blocking socket to the container's streams. The threads that pump it read and write
/// it directly, with no runtime and no copy between.
#[derive(Debug)]
pub(crate) struct Hijacked {
    /// What came behind the response's head in the same read.
    early: Bytes,
    socket: UnixStream,
}

/// The half that the container's output comes from.
#[derive(Debug)]
pub(crate) struct Output {
    early: Bytes,
    socket: UnixStream,
}

/// The half that the container's input goes to.
#[derive(Debug)]
pub(crate) struct Input {
    socket: UnixStream,
}

impl Hijacked {
    pub(super) fn new(upgraded: Upgraded) -> io::Result<Self> {
        match upgraded.downcast::<TokioIo<LastWord<tokio::net::UnixStream>>>() {
            Ok(parts) => {
                let socket = parts.io.into_inner().into_inner().into_std()?;
                socket.set_nonblocking(false)?;
                Ok(Self {
                    early: parts.read_buf,
                    socket,
                })
            }
            Err(upgraded) => Self::bridged(upgraded),
        }
    }

    /// TLS cannot be read and written by two threads: a task of the runtime does that, and they have a socket of ours.
    fn bridged(upgraded: Upgraded) -> io::Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        other.set_nonblocking(true)?;
        let mut other = tokio::net::UnixStream::from_std(other)?;
        tokio::spawn(async move {
            // A connection that breaks ends the stream; the wait for the exit code tells why.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut other).await;
        });
        Ok(Self {
            early: Bytes::new(),
            socket,
        })
    }

    /// Splits it into its two directions.
    pub(crate) fn split(self) -> io::Result<(Output, Input)> {
        let input = Input {
            socket: self.socket.try_clone()?,
        };
        let output = Output {
            early: self.early,
            socket: self.socket,
        };
        Ok((output, input))
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early.has_remaining() {
            let count = self.early.remaining().min(buffer.len());
            self.early.copy_to_slice(&mut buffer[..count]);
            return Ok(count);
        }
        self.socket.read(buffer)
    }
}

impl Input {
    /// Ends the container's standard input; its output goes on.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

impl io::Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_came_with_the_response_are_read_first() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let hijacked = Hijacked {
            early: Bytes::from_static(b"first "),
            socket: ours,
        };
        io::Write::write_all(&mut &theirs, b"then").unwrap();
        drop(theirs);
        let (mut output, _input) = hijacked.split().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first then");
    }

    #[test]
    fn closing_the_input_leaves_the_output_open() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let hijacked = Hijacked {
            early: Bytes::new(),
            socket: ours,
        };
        let (mut output, input) = hijacked.split().unwrap();
        input.close().unwrap();
        let mut end = [0; 1];
        assert_eq!(theirs.read(&mut end).unwrap(), 0, "the peer sees the end");
        io::Write::write_all(&mut theirs, b"late").unwrap();
        drop(theirs);
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "late");
    }
}
