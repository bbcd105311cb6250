//! The bytes of a push: read while they are sent, and once more if that failed.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::call::Progress;

/// Where a blob that is pushed comes from. It is opened anew for each try.
pub trait BlobSource: Send + Sync {
    /// The blob's file, at its first byte.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self) -> io::Result<File>;
}

impl BlobSource for Path {
    fn open(&self) -> io::Result<File> {
        File::open(self)
    }
}

impl BlobSource for PathBuf {
    fn open(&self) -> io::Result<File> {
        File::open(self)
    }
}

impl<F: Fn() -> io::Result<File> + Send + Sync> BlobSource for F {
    fn open(&self) -> io::Result<File> {
        self()
    }
}

/// Bytes that are read at a time.
const PIECE: usize = 128 << 10;

/// A function that is told how many bytes are at the registry or on their way.
pub(crate) type Report = Arc<dyn Fn(u64) + Send + Sync>;

/// A blob on its way to a registry.
pub(crate) struct Upload<'a> {
    source: &'a dyn BlobSource,
    length: u64,
    report: Report,
    error: Arc<Mutex<Option<io::Error>>>,
}

/// One try.
pub(crate) struct Started {
    pub(crate) body: reqwest::Body,
    pub(crate) length: u64,
    pub(crate) progress: Arc<Progress>,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(source: &'a dyn BlobSource, length: u64, report: Report) -> Self {
        Self {
            source,
            length,
            report,
            error: Arc::default(),
        }
    }

    /// Opens the source; the body reads these bytes of it as the connection takes them.
    pub(crate) fn start(&self, range: Range<u64>) -> io::Result<Started> {
        let mut file = self.source.open()?;
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start))?;
        }
        let length = range.end - range.start;
        let file = tokio::fs::File::from_std(file).take(length);
        let progress = Arc::new(Progress::default());
        // Nobody asks for the bytes of an empty body.
        progress.complete.send_replace(length == 0);
        let pieces = ReaderStream::with_capacity(file, PIECE);
        let body = reqwest::Body::wrap_stream(self.watch(pieces, range, progress.clone()));
        Ok(Started {
            body,
            length,
            progress,
        })
    }

    /// Passes pieces on, tells of them, and remembers an error: the connection's own says only that the body
    /// broke.
    fn watch(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        range: Range<u64>,
        progress: Arc<Progress>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (report, error, length) = (self.report.clone(), self.error.clone(), self.length);
        let mut sent = range.start;
        let end = futures_util::stream::once(async { Ok(Bytes::new()) });
        pieces.chain(end).map(move |piece| {
            let piece = match piece {
                Ok(piece) if piece.is_empty() && sent < range.end => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("they end after {sent} of {length} bytes"),
                )),
                other => other,
            };
            match piece {
                Ok(piece) => {
                    sent += piece.len() as u64;
                    progress.complete.send_replace(sent == range.end);
                    report(sent);
                    Ok(piece)
                }
                Err(cause) => {
                    let broken = io::Error::new(cause.kind(), cause.to_string());
                    *error.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
                    Err(broken)
                }
            }
        })
    }

    /// Why the source could not be read, once.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: &[u8], length: u64) -> (Vec<io::Result<Bytes>>, Option<io::Error>, bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let path = file.path().to_path_buf();
        let upload = Upload::new(&path, length, Arc::new(|_| {}));
        let progress = Arc::new(Progress::default());
        let opened = tokio::fs::File::open(&path).await.unwrap();
        let pieces = upload.watch(
            ReaderStream::new(opened.take(length)),
            0..length,
            progress.clone(),
        );
        let pieces = pieces.collect().await;
        let complete = *progress.complete.subscribe().borrow();
        (pieces, upload.take_error(), complete)
    }

    #[tokio::test]
    async fn a_source_is_read_to_the_length_that_was_promised() {
        let (pieces, error, complete) = read(b"abcdef", 4).await;
        let bytes: Vec<u8> = pieces
            .into_iter()
            .flat_map(|piece| piece.unwrap().to_vec())
            .collect();
        assert_eq!(bytes, b"abcd");
        assert!(error.is_none() && complete);
    }

    #[tokio::test]
    async fn a_source_that_ends_early_is_an_error_that_is_remembered() {
        let (pieces, error, complete) = read(b"abc", 4).await;
        assert!(pieces.last().unwrap().is_err());
        assert_eq!(error.unwrap().to_string(), "they end after 3 of 4 bytes");
        assert!(!complete);
    }
}
