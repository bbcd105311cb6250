//! The body of a request, written by a thread while it is sent.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use tokio::sync::mpsc::{self, Sender};

use crate::api::Content;

/// Bytes that are sent at once.
const PIECE: usize = 128 << 10;
/// Pieces that wait for the daemon.
const WAITING: usize = 4;

/// What becomes of the thread.
#[derive(Debug, Default)]
pub(super) struct Upload {
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

/// A part of the body.
enum Piece {
    Data(Bytes),
    /// Nothing is missing.
    End,
}

/// Where the thread writes to.
pub(super) struct BodyWriter {
    buffer: BytesMut,
    pieces: Sender<Piece>,
    written: u64,
}

impl Upload {
    /// Has `produce` write the body in a thread, as soon as there is a connection to send it over. When it fails the connection breaks: what has been sent is no whole
    /// archive, and must not be taken for one.
    pub(super) fn start(
        produce: impl FnOnce(&mut BodyWriter) -> anyhow::Result<()> + Send + 'static,
    ) -> (Content, Self) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (begin, begun) = std::sync::mpsc::channel();
        let upload = Self::default();
        let failure = Arc::clone(&upload.failure);
        thread::spawn(move || {
            if begun.recv().is_err() {
                return;
            }
            let mut body = BodyWriter {
                buffer: BytesMut::with_capacity(PIECE),
                pieces: sender,
                written: 0,
            };
            let produced = produce(&mut body).and_then(|()| Ok(body.send()?));
            match produced {
                // Nobody is left to be told when that fails.
                Ok(()) => drop(body.pieces.blocking_send(Piece::End)),
                // The daemon wants no more of it, and its answer says why.
                Err(_) if body.pieces.is_closed() => {}
                Err(error) => *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
            }
        });
        let stream = try_unfold((receiver, Some(begin)), async |(mut receiver, begin)| {
            // Only the first time; a thread that is gone shows below.
            if let Some(begin) = begin {
                let _: Result<(), _> = begin.send(());
            }
            match receiver.recv().await {
                Some(Piece::Data(bytes)) => Ok(Some((bytes, (receiver, None)))),
                Some(Piece::End) => Ok(None),
                None => Err(io::Error::other("what was to be sent could not be read")),
            }
        });
        (Content::archive_stream(stream), upload)
    }

    /// Why the thread failed, if it did.
    pub(super) fn failure(&self) -> Option<anyhow::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= PIECE {
            self.send()?;
        }
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    /// Nothing goes before a piece is full, so that the last one is sent when all is done.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BodyWriter {
    /// How many bytes were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Piece::Data(self.buffer.split().freeze());
        self.buffer.reserve(PIECE);
        self.pieces
            .blocking_send(piece)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
