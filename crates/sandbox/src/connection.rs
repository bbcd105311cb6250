//! Connections to ports of the guest, and frames on them.

use std::io;
use std::path::Path;

use bytes::{Buf, BytesMut};
use guest_protocol::{FrameError, decode, decode_length};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest answer to `CONNECT <port>`: `OK`, a port and a line feed.
const MAX_ANSWER: usize = 32;

/// Connects to a port of the guest through the listener of its vsock device. `first` is sent along, so that the guest
/// need not be waited for twice.
pub(crate) async fn connect(
    listener: &Path,
    port: u32,
    first: &[u8],
) -> io::Result<(Reader<OwnedReadHalf>, OwnedWriteHalf)> {
    let (from, mut to) = UnixStream::connect(listener).await?.into_split();
    let mut greeting = format!("CONNECT {port}\n").into_bytes();
    greeting.extend_from_slice(first);
    to.write_all(&greeting).await?;
    let mut reader = Reader::new(from);
    let line = reader.read_line(MAX_ANSWER).await?;
    if !line.starts_with(b"OK ") {
        let line = String::from_utf8_lossy(&line).into_owned();
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("the guest answered {line:?}"),
        ));
    }
    Ok((reader, to))
}

/// Reads what comes in pieces of its own choice. A read that is dropped loses nothing.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R) -> Reader<R> {
        Reader {
            from,
            buffer: BytesMut::with_capacity(512),
        }
    }

    /// Reads one frame; `None` when the connection ended between frames.
    pub(crate) async fn read_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some((prefix, rest)) = self.buffer.split_first_chunk::<4>() {
                let length = decode_length(*prefix)?;
                if let Some(payload) = rest.get(..length) {
                    let message = decode(payload)?;
                    self.buffer.advance(4 + length);
                    return Ok(Some(message));
                }
                self.buffer.reserve(4 + length - self.buffer.len());
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()))
                };
            }
        }
    }

    /// Reads a line, without its line feed.
    async fn read_line(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer[..end].to_vec();
                self.buffer.advance(end + 1);
                return Ok(line);
            }
            if self.buffer.len() >= limit {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the guest's answer is too long",
                ));
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
        }
    }

    /// Reads bytes, at most `room`, to the end of `into`; 0 at the end of the connection.
    pub(crate) async fn read(&mut self, into: &mut BytesMut, room: usize) -> io::Result<usize> {
        if self.buffer.is_empty() {
            into.reserve(room);
            return self.from.read_buf(&mut bytes::BufMut::limit(into, room)).await;
        }
        let taken = room.min(self.buffer.len());
        into.extend_from_slice(&self.buffer[..taken]);
        self.buffer.advance(taken);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use guest_protocol::{StreamReply, encode};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn what_follows_the_answer_at_once_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let guest = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = [0; 13];
            stream.read_exact(&mut line).await.unwrap();
            assert_eq!(&line, b"CONNECT 1025\n");
            let mut bytes = b"OK 1025\n".to_vec();
            bytes.extend(encode(&StreamReply::Ready).unwrap());
            bytes.extend(b"output");
            stream.write_all(&bytes).await.unwrap();
        });
        let (mut reader, _to) = connect(&path, 1025, b"").await.unwrap();
        assert_eq!(reader.read_frame().await.unwrap(), Some(StreamReply::Ready));
        let mut output = BytesMut::new();
        assert_eq!(reader.read(&mut output, 4).await.unwrap(), 4);
        while reader.read(&mut output, 64).await.unwrap() > 0 {}
        assert_eq!(&output[..], b"output");
        guest.await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_connection_is_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let guest = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 10]).await.unwrap();
        });
        let error = connect(&path, 7, b"").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        guest.await.unwrap();
    }

    #[tokio::test]
    async fn a_frame_that_comes_byte_by_byte_is_read_and_one_that_is_cut_is_an_error() {
        let (mut host, mut guest) = tokio::io::duplex(1);
        let frame = encode(&StreamReply::Refused("no such process".into())).unwrap();
        let sent = frame.clone();
        let sender = tokio::spawn(async move {
            guest.write_all(&sent).await.unwrap();
            guest.write_all(&sent[..5]).await.unwrap();
        });
        let mut reader = Reader::new(&mut host);
        let reply: Option<StreamReply> = reader.read_frame().await.unwrap();
        assert_eq!(reply, Some(StreamReply::Refused("no such process".into())));
        assert!(matches!(
            reader.read_frame::<StreamReply>().await,
            Err(FrameError::Io(_))
        ));
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_is_refused_before_memory_is_taken() {
        let bytes = u32::MAX.to_le_bytes();
        let mut reader = Reader::new(bytes.as_slice());
        assert!(matches!(
            reader.read_frame::<StreamReply>().await,
            Err(FrameError::TooLong(_))
        ));
        assert!(reader.buffer.capacity() < 4096);
    }
}
