//! ADD of a URL: a file from a web server, as a context of that one file.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use image_store::Digest;
use jiff::fmt::rfc2822;
use percent_encoding::percent_decode_str;
use registry::{Download, Registry, RegistryError, shown_url};
use tar_stream::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::context::{Context, ContextAttributes, ContextBuilder, ContextError, ContextLimits};
use crate::paths::{MAX_NAME, last_name};

/// The name of a file whose URL has none.
const UNNAMED: &str = "__unnamed__";
/// The mode of what is downloaded: whoever wants another says so.
const MODE: u16 = 0o600;
/// Pieces that wait to be written.
const WAITING: usize = 8;

/// Bounds of a download, and what it has to be.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// `--checksum`.
    pub checksum: Option<Digest>,
    /// The largest file that is taken, in bytes.
    pub max_bytes: u64,
    /// How long all of it may take.
    pub time: Duration,
}

impl Default for FetchOptions {
    /// 16 GiB, and an hour for them.
    fn default() -> Self {
        Self {
            checksum: None,
            max_bytes: 16 << 30,
            time: Duration::from_secs(3600),
        }
    }
}

/// Why a URL was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server did not give it.
    #[error(transparent)]
    Download(#[from] RegistryError),
    /// It is something else than was asked for.
    #[error("{url}: digest mismatch {actual}: {expected}")]
    Checksum {
        /// Where it comes from, without a password.
        url: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// It is too large.
    #[error("{url} has more than the {limit} bytes that may be downloaded")]
    TooLarge {
        /// Where it comes from, without a password.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// It takes too long.
    #[error("{url} was not downloaded within {} s; try again, or from a faster server", .time.as_secs())]
    TooSlow {
        /// Where it comes from, without a password.
        url: String,
        /// How long there was.
        time: Duration,
    },
    /// It cannot be kept.
    #[error("cannot keep what {url} holds: {source}")]
    Keep {
        /// Where it comes from, without a password.
        url: String,
        /// What is wrong.
        source: ContextError,
    },
}

/// What was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// A context with the file, readable by root only (0600), of the time of its `Last-Modified` or of 1970.
    pub context: Context,
    /// The file's name: the last one in the path of the URL.
    pub name: String,
    /// What it is.
    pub digest: Digest,
    /// What to show the server the next time, so that it need not send the same again.
    pub etag: Option<String>,
}

/// Downloads `url`; `None` if the server still has what it gave `known` to, the ETag of an earlier download. The content goes to a
/// temporary file without a name in `folder`.
///
/// # Errors
/// Nothing is kept then.
pub async fn fetch(
    registry: &Registry,
    url: &str,
    known: Option<&str>,
    options: &FetchOptions,
    folder: &Path,
) -> Result<Option<Fetched>, FetchError> {
    let fetching = async {
        let begun = match known {
            Some(etag) => registry.download_unless(url, etag).await?,
            None => Some(registry.download(url).await?),
        };
        match begun {
            Some(download) => keep(download, url, options, folder).await.map(Some),
            None => Ok(None),
        }
    };
    match tokio::time::timeout(options.time, fetching).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::TooSlow {
            url: shown_url(url),
            time: options.time,
        }),
    }
}

async fn keep(
    mut download: Download,
    url: &str,
    options: &FetchOptions,
    folder: &Path,
) -> Result<Fetched, FetchError> {
    let too_large = || FetchError::TooLarge {
        url: shown_url(url),
        limit: options.max_bytes,
    };
    if download.length().is_some_and(|length| length > options.max_bytes) {
        return Err(too_large());
    }
    let name = url_file_name(url);
    let etag = download.header("etag").map(str::to_owned);
    let attributes = ContextAttributes {
        mode: MODE,
        mtime: download
            .header("last-modified")
            .and_then(time)
            .unwrap_or_default(),
        xattrs: Vec::new(),
    };
    let limits = ContextLimits {
        content_bytes: options.max_bytes,
        ..ContextLimits::default()
    };
    let (pieces, received) = mpsc::channel(WAITING);
    let (folder, path) = (folder.to_owned(), name.clone());
    // Writing to the disk blocks.
    let writing = tokio::task::spawn_blocking(move || {
        let mut context = ContextBuilder::new(&folder, limits)?;
        let mut content = Pieces {
            received,
            piece: Bytes::new(),
            is_whole: false,
        };
        let digest = context.file(path.as_bytes(), attributes, &mut content)?;
        Ok((context.finish()?, digest))
    });
    let sent = send(&mut download, pieces).await;
    let written = writing
        .await
        .unwrap_or_else(|error| Err(ContextError::Read(io::Error::other(error))));
    // What the server did wrong is the reason for whatever went wrong with what it sent.
    sent?;
    let (context, digest) = written.map_err(|source| match source {
        ContextError::TooLarge { .. } => too_large(),
        source => FetchError::Keep {
            url: shown_url(url),
            source,
        },
    })?;
    if let Some(expected) = options.checksum.filter(|expected| *expected != digest) {
        return Err(FetchError::Checksum {
            url: shown_url(url),
            expected,
            actual: digest,
        });
    }
    Ok(Fetched {
        context,
        name,
        digest,
        etag,
    })
}

/// Hands on what comes, until nobody wants it any more. The end is sent, so that a cut is not taken for one.
async fn send(download: &mut Download, pieces: Sender<Option<Bytes>>) -> Result<(), RegistryError> {
    loop {
        let piece = download.chunk().await?;
        let is_end = piece.is_none();
        if pieces.send(piece).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// What comes, as a reader on another thread.
struct Pieces {
    received: Receiver<Option<Bytes>>,
    piece: Bytes,
    /// Whether the end has come.
    is_whole: bool,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_whole {
            match self.received.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.is_whole = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.piece.len().min(into.len());
        into[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// The last name in the path of a URL, decoded. What a server calls it has no say, nor has what it redirects to: then the name would
/// depend on more than the Dockerfile.
pub fn url_file_name(url: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let decoded: Vec<u8> = percent_decode_str(path.trim_end_matches('/')).collect();
    let name = String::from_utf8_lossy(last_name(&decoded)).into_owned();
    let is_usable =
        !matches!(name.as_str(), "" | "." | "..") && name.len() <= MAX_NAME && !name.contains('\0');
    if is_usable { name } else { UNNAMED.to_owned() }
}

/// A time as HTTP has it (RFC 9110, section 5.6.7), which is a form of RFC 2822's.
fn time(text: &str) -> Option<Timestamp> {
    let zoned = rfc2822::parse(text).ok()?;
    Some(Timestamp {
        seconds: zoned.timestamp().as_second(),
        nanoseconds: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_url() {
        for (url, name) in [
            ("https://example.com/a/b.tar.gz", "b.tar.gz"),
            ("https://example.com/a/b?x=/y#/z", "b"),
            ("https://example.com/dir/", "dir"),
            ("https://example.com/", UNNAMED),
            ("https://example.com", UNNAMED),
            ("https://example.com?x", UNNAMED),
            ("https://example.com/a%20b", "a b"),
            ("https://example.com/%2e%2e", UNNAMED),
            ("https://example.com/a%2fb", "b"),
            ("https://example.com/a%00b", UNNAMED),
        ] {
            assert_eq!(url_file_name(url), name, "{url}");
        }
        assert_eq!(
            url_file_name(&format!("https://example.com/{}", "x".repeat(256))),
            UNNAMED
        );
    }

    #[test]
    fn times_are_those_of_http() {
        let seconds = |text| time(text).map(|time| time.seconds);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("yesterday"), None);
    }
}
