//! What a request carries beside its path and query.

use std::fs::File;
use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio_util::io::ReaderStream;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 128 << 10;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body and headers.
pub(crate) struct Content {
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

impl Content {
    /// JSON; nothing when there is none.
    pub(super) fn json(body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        Self { headers, body }
    }

    /// All that a file or a pipe holds, sent as it is read.
    pub(crate) fn archive(file: File) -> Self {
        Self::archive_stream(ReaderStream::with_capacity(
            tokio::fs::File::from_std(file),
            CHUNK,
        ))
    }

    /// An archive in pieces. One that ends with an error breaks the connection, so that the daemon never takes a part for
    /// the whole.
    pub(crate) fn archive_stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-tar"),
        );
        let body = StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync();
        Self { headers, body }
    }

    /// With the credentials for a registry, as `RegistryAuth::header` has them.
    pub(crate) fn with_registry_auth(self, value: &str) -> Self {
        self.with_secret("x-registry-auth", value)
    }

    /// With a header that nobody should print: its name in small letters, its value in base64.
    pub(crate) fn with_secret(mut self, name: &'static str, base64: &str) -> Self {
        // Base64 is always a header's value.
        if let Ok(mut value) = HeaderValue::from_str(base64) {
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::json(Bytes::new())
    }
}
