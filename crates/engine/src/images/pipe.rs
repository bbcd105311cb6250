//! A pipe from asynchronous code to a thread that reads and blocks. It holds few pieces, so that whoever is faster
//! waits for the other.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::archive_places::ArchivePlace;

/// Pieces that wait in a pipe at most. One that was read from a registry has up to 400 KiB.
const PIECES: usize = 4;

/// The end that is written to.
#[derive(Debug)]
pub(crate) struct PipeWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    wanted: Option<oneshot::Receiver<()>>,
}

/// The end that is read from, on a thread that may block.
#[derive(Debug)]
pub(crate) struct PipeReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    ended: bool,
    want: Option<oneshot::Sender<()>>,
    place: Option<ArchivePlace>,
}

/// The reader has gone: it has read enough, or has failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A pipe.
pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let (want, wanted) = oneshot::channel();
    let writer = PipeWriter {
        pieces: sender,
        wanted: Some(wanted),
    };
    let reader = PipeReader {
        pieces: receiver,
        piece: Bytes::new(),
        ended: false,
        want: Some(want),
        place: None,
    };
    (writer, reader)
}

impl PipeWriter {
    /// Waits until the reader reads for the first time.
    pub(crate) async fn wanted(&mut self) -> Result<(), Closed> {
        match self.wanted.take() {
            Some(wanted) => wanted.await.map_err(|_| Closed),
            None => Ok(()),
        }
    }

    /// Writes a piece.
    pub(crate) async fn write(&self, piece: Bytes) -> Result<(), Closed> {
        self.pieces.send(Ok(piece)).await.map_err(|_| Closed)
    }

    /// Waits until the reader has gone.
    pub(crate) async fn unwanted(&self) {
        self.pieces.closed().await;
    }

    /// Makes the reader fail instead of coming to an end.
    pub(crate) async fn fail(self, message: &str) {
        // A reader that has gone needs no error.
        let _ = self.pieces.send(Err(io::Error::other(message.to_owned()))).await;
    }

    /// Comes to the end. A writer that is dropped without it makes the reader fail.
    pub(crate) async fn finish(self) {
        let _ = self.pieces.send(Ok(Bytes::new())).await;
    }
}

impl PipeReader {
    /// Waits for the writer, which is a client's, no longer than its place is not wanted.
    pub(crate) fn at(self, place: ArchivePlace) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }

    /// The next piece.
    fn receive(&mut self) -> io::Result<Option<io::Result<Bytes>>> {
        match (&self.place, self.pieces.try_recv()) {
            (_, Ok(piece)) => Ok(Some(piece)),
            (Some(place), _) => place.wait_for(self.pieces.recv()),
            (None, _) => Ok(self.pieces.blocking_recv()),
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(want) = self.want.take() {
            // A writer that has gone shows below.
            let _ = want.send(());
        }
        if self.piece.is_empty() && !self.ended {
            match self.receive()? {
                Some(piece) => self.piece = piece?,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the transfer was given up",
                    ));
                }
            }
            self.ended = self.piece.is_empty();
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_once_it_is_wanted() {
        let (mut writer, mut reader) = pipe();
        let reading = tokio::task::spawn_blocking(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| (read, reader))
        });
        writer.wanted().await.unwrap();
        for piece in ["ab", "c"] {
            writer.write(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        writer.finish().await;
        let (read, mut reader) = reading.await.unwrap().unwrap();
        assert_eq!(read, b"abc");
        let again = tokio::task::spawn_blocking(move || reader.read(&mut [0; 8]));
        assert_eq!(again.await.unwrap().unwrap(), 0, "the end stays the end");
    }

    #[tokio::test]
    async fn a_writer_that_goes_is_an_error_and_not_the_end() {
        let (writer, mut reader) = pipe();
        writer.write(Bytes::from_static(b"ab")).await.unwrap();
        drop(writer);
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert_eq!(
            read.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
        let (writer, mut reader) = pipe();
        writer.fail("the registry hangs").await;
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert_eq!(read.await.unwrap().unwrap_err().to_string(), "the registry hangs");
    }

    #[tokio::test]
    async fn a_reader_that_goes_stops_the_writer() {
        let (mut writer, reader) = pipe();
        drop(reader);
        assert_eq!(writer.wanted().await, Err(Closed));
        assert_eq!(writer.write(Bytes::from_static(b"ab")).await, Err(Closed));
    }
}
