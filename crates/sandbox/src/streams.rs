//! The streams of a process in the guest.

use std::path::Path;

use bytes::BytesMut;
use guest_protocol::{STREAM_PORT, STREAM_WINDOW, StreamHello, StreamReply, encode};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::connection::{Reader, connect};
use crate::{ProcessId, Result, SandboxError, StreamKind};

/// The most that one [`OutputStream::read`] takes.
pub const READ_SIZE: usize = 64 * 1024;

/// An acknowledgement is sent when this many bytes are owed one: often enough that the agent never waits for it while
/// the host keeps up, and not at all for a few lines.
const ACKNOWLEDGE_EVERY: u64 = STREAM_WINDOW / 8;

/// What a process writes.
#[derive(Debug)]
pub struct OutputStream {
    from: Reader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    acknowledged: u64,
}

impl OutputStream {
    pub(crate) async fn open(
        listener: &Path,
        process: ProcessId,
        stream: StreamKind,
        offset: u64,
    ) -> Result<OutputStream> {
        let (from, to) = open(
            listener,
            StreamHello {
                process,
                stream,
                offset,
            },
        )
        .await?;
        Ok(OutputStream {
            from,
            to,
            acknowledged: offset,
        })
    }

    /// Reads what there is, at most [`READ_SIZE`], to the end of `into`; 0 at the end of the stream, which is also
    /// what the end of the microVM looks like. A read that is dropped loses nothing.
    pub async fn read(&mut self, into: &mut BytesMut) -> Result<usize> {
        self.from
            .read(into, READ_SIZE)
            .await
            .map_err(SandboxError::connection("read a process's output"))
    }

    /// Says that every byte before this offset of the stream is safe. The agent keeps no more than [`STREAM_WINDOW`]
    /// bytes that are not.
    pub async fn acknowledge(&mut self, offset: u64) -> Result<()> {
        if offset < self.acknowledged + ACKNOWLEDGE_EVERY {
            return Ok(());
        }
        self.acknowledged = offset;
        let sent = self.to.write_all(&offset.to_le_bytes()).await;
        sent.map_err(SandboxError::connection("acknowledge a process's output"))
    }
}

/// What a process reads.
#[derive(Debug)]
pub struct InputStream {
    /// Held open, because closing both directions is no end of file for the process.
    _from: Reader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl InputStream {
    pub(crate) async fn open(listener: &Path, process: ProcessId) -> Result<InputStream> {
        let hello = StreamHello {
            process,
            stream: StreamKind::Stdin,
            offset: 0,
        };
        let (from, to) = open(listener, hello).await?;
        Ok(InputStream { _from: from, to })
    }

    /// Sends bytes; waits while the process does not read. An error means that it never will.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to
            .write_all(bytes)
            .await
            .map_err(SandboxError::connection("write a process's input"))
    }

    /// The process reads end of file.
    pub async fn end(&mut self) -> Result<()> {
        self.to
            .shutdown()
            .await
            .map_err(SandboxError::connection("end a process's input"))
    }
}

async fn open(listener: &Path, hello: StreamHello) -> Result<(Reader<OwnedReadHalf>, OwnedWriteHalf)> {
    const ACTION: &str = "open a stream of a process";
    let frame = encode(&hello).map_err(SandboxError::protocol(ACTION))?;
    let connected = connect(listener, STREAM_PORT, &frame).await;
    let (mut from, to) = connected.map_err(SandboxError::connection(ACTION))?;
    match from.read_frame().await.map_err(SandboxError::protocol(ACTION))? {
        Some(StreamReply::Ready) => Ok((from, to)),
        Some(StreamReply::Refused(reason)) => Err(SandboxError::Unexpected {
            action: ACTION,
            answer: reason,
        }),
        None => Err(SandboxError::Connection {
            action: ACTION,
            source: std::io::ErrorKind::UnexpectedEof.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use guest_protocol::encode;
    use tokio::io::AsyncReadExt;
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    /// The agent's side of a stream connection, played by the test: takes the hello and answers it.
    async fn accept(listener: &UnixListener, reply: &StreamReply) -> (StreamHello, UnixStream) {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; "CONNECT 1025\n".len()]).await.unwrap();
        stream.write_all(b"OK 1025\n").await.unwrap();
        let hello = Reader::new(&mut stream).read_frame().await.unwrap().unwrap();
        stream.write_all(&encode(reply).unwrap()).await.unwrap();
        (hello, stream)
    }

    #[tokio::test]
    async fn output_is_read_to_its_end_and_acknowledged_when_it_is_much() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = tokio::spawn(async move {
            let (hello, mut stream) = accept(&listener, &StreamReply::Ready).await;
            assert_eq!(
                hello,
                StreamHello {
                    process: 3,
                    stream: StreamKind::Stderr,
                    offset: 10
                }
            );
            stream.write_all(&vec![7; STREAM_WINDOW as usize]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut acknowledged = Vec::new();
            stream.read_to_end(&mut acknowledged).await.unwrap();
            acknowledged
        });
        let mut output = OutputStream::open(&path, 3, StreamKind::Stderr, 10)
            .await
            .unwrap();
        let mut bytes = BytesMut::new();
        while output.read(&mut bytes).await.unwrap() > 0 {
            assert!(bytes.len() <= READ_SIZE);
            let offset = output.acknowledged + bytes.len() as u64;
            bytes.clear();
            output.acknowledge(offset).await.unwrap();
        }
        let last = output.acknowledged;
        drop(output);
        let acknowledged = agent.await.unwrap();
        assert!(!acknowledged.is_empty());
        assert_eq!(acknowledged.rchunks(8).next().unwrap(), last.to_le_bytes());
    }

    #[tokio::test]
    async fn a_refused_stream_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = tokio::spawn(async move {
            accept(&listener, &StreamReply::Refused("no such process".into())).await;
        });
        let error = InputStream::open(&path, 9).await.unwrap_err();
        assert!(error.to_string().contains("no such process"), "{error}");
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn input_ends_by_half_close() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = tokio::spawn(async move {
            let (_, mut stream) = accept(&listener, &StreamReply::Ready).await;
            let mut input = Vec::new();
            stream.read_to_end(&mut input).await.unwrap();
            input
        });
        let mut input = InputStream::open(&path, 1).await.unwrap();
        input.write(b"hi\n").await.unwrap();
        input.end().await.unwrap();
        assert_eq!(agent.await.unwrap(), b"hi\n");
    }
}
