//! What a request carries beside its path and query.

use std::fs::File;
use std::io;

use bytes::Bytes;
use futures_util::TryStreamExt;
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
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK);
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-tar"),
        );
        let body = StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync();
        Self { headers, body }
    }

    /// With the credentials for a registry, as `RegistryAuth::header` has them.
    pub(crate) fn with_registry_auth(mut self, value: &str) -> Self {
        // Base64 is always a header's value.
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers
                .insert(HeaderName::from_static("x-registry-auth"), value);
        }
        self
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::json(Bytes::new())
    }
}
