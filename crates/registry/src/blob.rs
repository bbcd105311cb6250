//! A blob as it comes: in pieces, across cuts, measured against its size and its digest.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use oci_spec::image::{Descriptor, Digest};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::answer::Answer;
use crate::call::Call;
use crate::digest::Verifier;
use crate::error::{RegistryError, Result};
use crate::repository::Repository;
use crate::retry::Retries;
use crate::session::{Session, text};
use crate::token::Scope;

/// Bytes after which a download that was cut counts as going on, so that its tries are counted anew.
const PROGRESS: u64 = 1 << 20;

/// A blob by its digest and its size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlobDescriptor {
    /// What the bytes are.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

impl From<&Descriptor> for BlobDescriptor {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest().clone(),
            size: descriptor.size(),
        }
    }
}

/// A pause before a download goes on.
#[derive(Debug)]
pub struct Retry<'a> {
    /// How many tries in a row have failed.
    pub failures: u32,
    /// How long it waits.
    pub pause: Duration,
    /// What failed.
    pub error: &'a RegistryError,
}

/// A function that is told of every pause.
pub(crate) type OnRetry = Box<dyn Fn(Retry<'_>) + Send + Sync>;

/// The pieces of a blob, in order, none twice.
///
/// A cut, a stall, a 429 or a 5xx is waited out and the download goes on where it stopped. There are never more
/// bytes than the descriptor says. The pieces come before the whole is verified: the last item is an error if
/// size or digest are not what they should be, and then nothing of it may be used.
#[must_use = "a stream does nothing until it is read"]
pub struct BlobStream(Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>);

impl BlobStream {
    pub(crate) fn new(repository: Repository, blob: BlobDescriptor, on_retry: OnRetry) -> Self {
        let download = Verifier::new(&blob.digest).map(|verifier| Download {
            what: format!("pull blob {} of {repository}", blob.digest),
            retries: Retries::new(repository.retry_policy()),
            repository,
            blob,
            on_retry,
            verifier,
            endpoint: 0,
            session: None,
            received: 0,
            since_retry: 0,
            connection: None,
        });
        let pieces = stream::try_unfold(download.map_err(RegistryError::from), |download| async {
            let mut download = download?;
            let piece = download.next().await?;
            match piece {
                Some(piece) => Ok(Some((piece, Ok(download)))),
                None => download.verify().map(|()| None),
            }
        });
        Self(Box::pin(pieces))
    }

    /// The same as a reader. Its errors are [`std::io::Error`]s that hold a [`RegistryError`].
    pub fn into_async_read(self) -> impl AsyncRead + Send + Unpin {
        StreamReader::new(self)
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

/// A download between two pieces.
struct Download {
    what: String,
    repository: Repository,
    blob: BlobDescriptor,
    on_retry: OnRetry,
    verifier: Verifier,
    retries: Retries,
    /// Which of the repository's endpoints is asked: mirrors first.
    endpoint: usize,
    session: Option<Arc<Session>>,
    /// Bytes that were handed out.
    received: u64,
    /// Bytes that were handed out since the last failure.
    since_retry: u64,
    connection: Option<Connection>,
}

/// An answer that brings the blob from some byte on.
struct Connection {
    answer: Answer,
    /// Bytes that come but are known already: the server does not do ranges.
    skip: u64,
}

impl Download {
    /// The next piece, `None` when all are there.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let pause = match self.try_next().await {
                Ok(piece) => return Ok(piece),
                Err(error) => self.pause_after(error),
            };
            match pause {
                Ok(pause) => tokio::time::sleep(pause).await,
                Err(error) if self.endpoint + 1 < self.repository.endpoints() => {
                    tracing::debug!(%error, "a download goes on at the next endpoint");
                    self.endpoint += 1;
                    self.session = None;
                    self.retries.progress();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How long to wait before the endpoint is asked again, or why it is not.
    fn pause_after(&mut self, error: RegistryError) -> Result<Duration> {
        self.connection = None;
        if self.session.is_none() {
            // Opening a session has tries of its own.
            return Err(error);
        }
        if self.since_retry >= PROGRESS {
            self.retries.progress();
        }
        self.since_retry = 0;
        let (pause, error) = self.retries.pause_after(error)?;
        tracing::debug!(%error, ?pause, received = self.received, "a download goes on after a pause");
        (self.on_retry)(Retry {
            failures: self.retries.failures(),
            pause,
            error: &error,
        });
        Ok(pause)
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>> {
        if self.received == self.blob.size && self.connection.is_none() {
            return Ok(None);
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        loop {
            let chunk = match connection.answer.chunk().await {
                // All is there: that the connection ends badly harms nobody.
                Err(_) if self.received == self.blob.size => None,
                chunk => chunk?,
            };
            let Some(mut chunk) = chunk else {
                return if self.received == self.blob.size {
                    Ok(None)
                } else {
                    Err(self.cut_short(&connection))
                };
            };
            let known = connection.skip.min(chunk.len() as u64);
            connection.skip -= known;
            let piece = chunk.split_off(known as usize);
            if piece.is_empty() {
                continue;
            }
            self.accept(&piece)?;
            self.connection = Some(connection);
            return Ok(Some(piece));
        }
    }

    /// Counts and measures a piece before it is handed out.
    fn accept(&mut self, piece: &Bytes) -> Result<()> {
        let length = piece.len() as u64;
        if length > self.blob.size - self.received {
            return Err(self.wrong_size(self.received.saturating_add(length)));
        }
        self.received += length;
        self.since_retry += length;
        self.verifier.update(piece);
        Ok(())
    }

    fn verify(self) -> Result<()> {
        let (what, registry) = (self.what, self.repository.registry());
        self.verifier.finish().map_err(|mismatch| RegistryError::Digest {
            what,
            registry,
            mismatch,
        })
    }

    /// Asks for what is missing (RFC 9110, section 14).
    async fn connect(&mut self) -> Result<Connection> {
        let session = match &self.session {
            Some(session) => session.clone(),
            None => self.repository.session(self.endpoint, &self.what).await?,
        };
        self.session = Some(session.clone());
        let url = session.url(&format!("{}/blobs/{}", self.repository.name(), self.blob.digest));
        let mut call = Call::new(&self.what, Method::GET, url).scope(Scope::pull(self.repository.name()));
        if self.received > 0 {
            let range =
                HeaderValue::try_from(format!("bytes={}-", self.received)).expect("digits make a header");
            call = call.header(RANGE, range);
        }
        let answer = session.call_once(&call).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                self.check_range(text(answer.headers(), CONTENT_RANGE.as_str()))?;
                Ok(Connection { answer, skip: 0 })
            }
            _ => {
                if let Some(length) = answer.length().filter(|length| *length != self.blob.size) {
                    return Err(self.wrong_size(length));
                }
                Ok(Connection {
                    answer,
                    skip: self.received,
                })
            }
        }
    }

    /// Whether a part is the one that was asked for: `bytes FIRST-LAST/LENGTH`.
    fn check_range(&self, header: Option<&str>) -> Result<()> {
        let header = header.unwrap_or_default();
        let range = ContentRange::parse(header);
        let Some(range) = range.filter(|range| range.first == self.received) else {
            let wanted = self.received;
            return Err(self.protocol(format!(
                "bytes from {wanted} on were asked for, its range is {header:?}"
            )));
        };
        match range.length {
            Some(length) if length != self.blob.size => Err(self.wrong_size(length)),
            _ => Ok(()),
        }
    }

    fn cut_short(&self, connection: &Connection) -> RegistryError {
        let reason = format!("it ended after {} of {} bytes", self.received, self.blob.size);
        RegistryError::Connection {
            what: self.what.clone(),
            host: connection.answer.host(),
            reason,
        }
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        let (what, registry) = (self.what.clone(), self.repository.registry());
        RegistryError::Size {
            what,
            registry,
            expected: self.blob.size,
            actual,
        }
    }

    fn protocol(&self, reason: String) -> RegistryError {
        let (what, registry) = (self.what.clone(), self.repository.registry());
        RegistryError::Protocol {
            what,
            registry,
            reason: reason.chars().take(200).collect(),
        }
    }
}

/// A `Content-Range` (RFC 9110, section 14.4).
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    /// Of the whole, if the server knows it.
    length: Option<u64>,
}

impl ContentRange {
    fn parse(header: &str) -> Option<Self> {
        let (range, length) = header.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
        let length = match length {
            "*" => None,
            digits => Some(digits.parse().ok()?),
        };
        (first <= last).then_some(Self { first, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let parse = |header| ContentRange::parse(header).map(|range| (range.first, range.length));
        assert_eq!(parse("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse("bytes 5-9/*"), Some((5, None)));
        for header in [
            "",
            "bytes */10",
            "bytes 9-5/10",
            "items 1-2/3",
            "bytes 1-2",
            "bytes a-b/c",
            "bytes 1-2/99999999999999999999",
        ] {
            assert_eq!(parse(header), None, "{header}");
        }
    }
}
