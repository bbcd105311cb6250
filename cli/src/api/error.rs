//! How a request to the daemon fails.

use std::io;
use std::path::PathBuf;

use hyper::StatusCode;
use thiserror::Error;

/// A request that did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// The daemon understood and said no. Worded as Docker's client words it, for scripts that look.
    #[error("Error response from daemon: {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The daemon's own words.
        message: String,
    },
    /// Nobody answers at the socket.
    #[error("cannot connect to the hull daemon at unix://{}: {source}. Is hulld running?", socket.display())]
    Connect {
        /// The socket that was tried.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon was not there and could not be started.
    #[error(transparent)]
    Start(#[from] crate::bootstrap::StartError),
    /// The connection broke, or what came over it was no HTTP.
    #[error("{method} {target}: the connection to the daemon failed: {source}")]
    Transport {
        /// The request's method.
        method: hyper::Method,
        /// The request's path and query.
        target: String,
        /// What hyper saw.
        source: hyper::Error,
    },
    /// The body is not the JSON that the API promises.
    #[error("{target}: the daemon's answer is not understood: {source}")]
    Decode {
        /// The request's path and query.
        target: String,
        /// Where the JSON went wrong.
        source: serde_json::Error,
    },
    /// The daemon answered a request to hijack the connection with an ordinary response.
    #[error("{target}: the daemon answered {status} where it should have handed over the connection")]
    NotHijacked {
        /// The request's path and query.
        target: String,
        /// The status it sent.
        status: StatusCode,
    },
    /// The hijacked connection cannot be used.
    #[error("{target}: the connection cannot be used for a stream: {source}")]
    Stream {
        /// The request's path and query.
        target: String,
        /// Why.
        source: io::Error,
    },
}

impl ApiError {
    /// Whether the daemon said that what was named is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}
