//! How a request to the daemon fails.

use std::error::Error as StdError;
use std::io;

use hyper::{Method, StatusCode};
use thiserror::Error;

use super::address::Address;
use super::target::Target;
use super::tls::{TlsError, advice};

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
    /// Nobody answers at the address.
    #[error("cannot connect to the hull daemon at {address}: {source}. Is hulld running?")]
    Connect {
        /// The address that was tried.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The daemon and we do not agree on TLS.
    #[error("cannot speak TLS with the daemon at {address}: {source}; {}", advice(source))]
    Tls {
        /// The daemon.
        address: Address,
        /// What went wrong.
        source: rustls::Error,
    },
    /// TLS cannot be spoken with what was given.
    #[error(transparent)]
    TlsFiles(#[from] TlsError),
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
    /// No connection to `address`.
    pub(super) fn connect(address: &Address, source: io::Error) -> Self {
        match tls_cause(&source) {
            Some(source) => Self::Tls {
                address: address.clone(),
                source,
            },
            None => Self::Connect {
                address: address.clone(),
                source,
            },
        }
    }

    /// A broken connection. In TLS 1.3 a server refuses a client certificate when the client thinks that all is well.
    pub(super) fn transport(
        address: &Address,
        method: &Method,
        target: &Target,
        source: hyper::Error,
    ) -> Self {
        match tls_cause(&source) {
            Some(source) => Self::Tls {
                address: address.clone(),
                source,
            },
            None => Self::Transport {
                method: method.clone(),
                target: target.to_string(),
                source,
            },
        }
    }

    /// Whether the daemon said that what was named is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// The word of TLS among the causes of an error.
fn tls_cause(error: &(dyn StdError + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found.clone());
        }
        // An io::Error hides the error that it was made of from source().
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    None
}
