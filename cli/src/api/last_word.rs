//! A connection whose other end may stop listening and still say why.
//!
//! A daemon that refuses a large body answers and closes. Writing fails then, while the answer waits to be read; an HTTP
//! client that gives up at the first failure would never see it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that takes what nobody wants until it has been read to its end.
#[derive(Debug)]
pub(super) struct LastWord<S> {
    stream: S,
    /// The other end takes nothing any more.
    unheard: bool,
    /// The other end says nothing any more.
    ended: bool,
}

impl<S> LastWord<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            unheard: false,
            ended: false,
        }
    }

    /// The stream itself.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// What becomes of a write while nobody listens.
    fn swallow(&self, length: usize) -> io::Result<usize> {
        match self.ended {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(length),
        }
    }

    /// Whether a write failed because nobody listens any more.
    fn is_end(&mut self, error: &io::Error) -> bool {
        self.unheard = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        );
        self.unheard
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LastWord<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
            // What had been said was read before.
            Err(error) if self.unheard && error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            read => read,
        };
        self.ended |= buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LastWord<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unheard {
            return Poll::Ready(self.swallow(bytes.len()));
        }
        match ready!(Pin::new(&mut self.stream).poll_write(context, bytes)) {
            Err(error) if self.is_end(&error) => Poll::Ready(self.swallow(bytes.len())),
            written => Poll::Ready(written),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if self.unheard {
            return Poll::Ready(self.swallow(length));
        }
        match ready!(Pin::new(&mut self.stream).poll_write_vectored(context, pieces)) {
            Err(error) if self.is_end(&error) => Poll::Ready(self.swallow(length)),
            written => Poll::Ready(written),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unheard {
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut self.stream).poll_flush(context)) {
            Err(error) if self.is_end(&error) => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unheard {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn what_was_said_is_read_when_nothing_can_be_written() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut stream = LastWord::new(tokio::net::UnixStream::from_std(ours).unwrap());
            stream.write_all(b"never read").await.unwrap();
            io::Write::write_all(&mut &theirs, b"no").unwrap();
            drop(theirs);
            stream.write_all(b"more").await.unwrap();
            stream.flush().await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "no");
            // There is nothing left to wait for.
            assert!(stream.write_all(b"more").await.is_err());
        });
    }
}
