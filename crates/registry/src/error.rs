//! What a registry, or the way to it, can do to a request.

use std::io;
use std::time::Duration;

use crate::config::ConfigError;
use crate::digest::DigestMismatch;
use crate::tls::TlsError;

/// A result of this crate.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// Why a request to a registry failed, in words that a person can act on.
///
/// `what` says what was tried (`pull manifest latest of localhost:5000/app`), `registry` is the host and port
/// as they stand in image names. `detail` is what the server said: bounded, without control characters and
/// without the credentials that it was sent. No variant holds a password, a token or the query of a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The configuration or an argument cannot be used; nothing was sent.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// A folder of certificates cannot be used; nothing was sent.
    #[error(transparent)]
    Certificates(#[from] TlsError),

    /// 401, or a token server that turned the credentials down.
    #[error(
        "cannot {what}: {registry} does not accept the credentials, or there are none (401{detail}); \
         log in with `hull login {registry}`"
    )]
    #[allow(missing_docs)]
    Unauthorized {
        what: String,
        registry: String,
        detail: Detail,
    },

    /// 403.
    #[error(
        "cannot {what}: {registry} does not allow it (403{detail}); ask its owner for access, or log in as another user"
    )]
    #[allow(missing_docs)]
    Forbidden {
        what: String,
        registry: String,
        detail: Detail,
    },

    /// 404. Registries also say this of what the user may not see.
    #[error(
        "cannot {what}: {registry} does not have it, or shows it to others only (404{detail}); \
         check the name and the tag, and log in with `hull login {registry}` if it is private"
    )]
    #[allow(missing_docs)]
    NotFound {
        what: String,
        registry: String,
        detail: Detail,
    },

    /// 429, after the retries.
    #[error(
        "cannot {what}: {registry} takes no more requests for now (429{detail}){}; try again later, or log in: \
         users often have a higher limit", after(.retry_after)
    )]
    #[allow(missing_docs)]
    TooManyRequests {
        what: String,
        registry: String,
        detail: Detail,
        /// What the server's `Retry-After` asked for.
        retry_after: Option<Duration>,
    },

    /// 5xx, after the retries.
    #[error(
        "cannot {what}: {registry} failed with {status}{detail} {attempts} times; the fault is there: try again later"
    )]
    #[allow(missing_docs)]
    Server {
        what: String,
        registry: String,
        status: u16,
        detail: Detail,
        attempts: u32,
    },

    /// Any other status that the protocol does not allow here.
    #[error("cannot {what}: {registry} answered {status}{detail}")]
    #[allow(missing_docs)]
    Status {
        what: String,
        registry: String,
        status: u16,
        detail: Detail,
    },

    /// A time-out; `missing` is one of: `no connection`, `no answer`, `no end of its answer`, `no more bytes`,
    /// `no way on for an upload`, `no word on a finished upload`.
    #[error(
        "cannot {what}: {registry} gave {missing} within {waited:?}; it hangs, or the network does: try again later"
    )]
    #[allow(missing_docs)]
    TimedOut {
        what: String,
        registry: String,
        missing: &'static str,
        waited: Duration,
    },

    /// The host has no address.
    #[error(
        "cannot {what}: the name {host} cannot be resolved: {reason}; check the name and this machine's DNS"
    )]
    #[allow(missing_docs)]
    Resolve {
        what: String,
        host: String,
        reason: String,
    },

    /// Nobody listens.
    #[error(
        "cannot {what}: nobody listens at {host} (connection refused); check the name and the port, and that a server runs there"
    )]
    #[allow(missing_docs)]
    Refused { what: String, host: String },

    /// The certificate of the server, or ours, is not accepted.
    #[error(
        "cannot {what}: no TLS connection to {host}: {reason}; if the registry has a CA of its own put it at \
         /etc/hull/certs.d/{host}/ca.crt, if it speaks plain HTTP name it as insecure in the daemon's configuration"
    )]
    #[allow(missing_docs)]
    Tls {
        what: String,
        host: String,
        reason: String,
    },

    /// The server wants to see a client certificate, or another one.
    #[error(
        "cannot {what}: {host} wants a client certificate that it knows ({reason}); put it at \
         /etc/hull/certs.d/{host}/client.cert with its key at /etc/hull/certs.d/{host}/client.key"
    )]
    #[allow(missing_docs)]
    ClientCertificate {
        what: String,
        host: String,
        reason: String,
    },

    /// A redirect, a token server or a mirror wants plain HTTP from a host that is not insecure by configuration.
    #[error(
        "cannot {what}: {registry} sends the request to {host} in plain HTTP, which is for loopback and for registries \
         that the daemon's configuration names as insecure"
    )]
    #[allow(missing_docs)]
    PlainHttp {
        what: String,
        registry: String,
        host: String,
    },

    /// The connection broke, after the retries where there are any.
    #[error("cannot {what}: the connection to {host} broke: {reason}; try again")]
    #[allow(missing_docs)]
    Connection {
        what: String,
        host: String,
        reason: String,
    },

    /// The bytes are not those that the digest names.
    #[error(
        "cannot {what}: what {registry} sent is damaged: {mismatch}; nothing of it is to be used: try again, \
         and tell the registry's owner if it stays"
    )]
    #[allow(missing_docs)]
    Digest {
        what: String,
        registry: String,
        #[source]
        mismatch: DigestMismatch,
    },

    /// The size is not what the descriptor says.
    #[error(
        "cannot {what}: the manifest says {expected} bytes, {registry} has {actual}; nothing of it is to be used: \
         tell the registry's owner"
    )]
    #[allow(missing_docs)]
    Size {
        what: String,
        registry: String,
        expected: u64,
        actual: u64,
    },

    /// An answer is larger than anything honest.
    #[error("cannot {what}: {registry} sends more than {limit} bytes, more than is ever needed")]
    #[allow(missing_docs)]
    TooLarge {
        what: String,
        registry: String,
        limit: u64,
    },

    /// The server breaks the protocol.
    #[error("cannot {what}: {registry} does not keep to the protocol: {reason}")]
    #[allow(missing_docs)]
    Protocol {
        what: String,
        registry: String,
        reason: String,
    },

    /// What is to be pushed cannot be read.
    #[error("cannot {what}: the bytes to be sent cannot be read: {source}")]
    #[allow(missing_docs)]
    Source { what: String, source: io::Error },
}

fn after(wait: &Option<Duration>) -> String {
    wait.map(|wait| format!(", for {} s", wait.as_secs()))
        .unwrap_or_default()
}

impl RegistryError {
    /// The HTTP status behind this error, if the registry answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unauthorized { .. } => Some(401),
            Self::Forbidden { .. } => Some(403),
            Self::NotFound { .. } => Some(404),
            Self::TooManyRequests { .. } => Some(429),
            Self::Server { status, .. } | Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Says how often it was tried, where the message tells.
    pub(crate) fn after_attempts(mut self, failures: u32) -> Self {
        if let Self::Server { attempts, .. } = &mut self {
            *attempts = failures;
        }
        self
    }

    /// Whether the same request may go well a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::TooManyRequests { .. }
                | Self::Server { .. }
                | Self::TimedOut { .. }
                | Self::Refused { .. }
                | Self::Connection { .. }
        )
    }
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::other(error)
    }
}

/// What a server said about its refusal: one line, bounded, printable; shown with a leading colon, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail(String);

/// Characters of a server's text that a message repeats.
const MAX_DETAIL_CHARS: usize = 300;

impl Detail {
    /// The part of a server's text that may be shown: a terminal must not obey it, and a server that repeats
    /// the credentials must not have them written to a log.
    pub(crate) fn new(text: &str, secrets: &[&str]) -> Self {
        let mut text = text.to_string();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "[hidden]");
        }
        let printable: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_DETAIL_CHARS)
            .collect();
        Self(printable.trim().to_string())
    }

    /// The text without the colon; empty if the server gave none.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_short_printable_and_without_secrets() {
        let hostile = format!("\x1b[2Jno, {} is wrong\n{}", "hunter2", "x".repeat(1000));
        let detail = Detail::new(&hostile, &["hunter2", ""]);
        assert!(
            detail.as_str().starts_with("[2Jno, [hidden] is wrong x"),
            "{detail}"
        );
        assert_eq!(detail.as_str().chars().count(), MAX_DETAIL_CHARS - 1);
        assert_eq!(Detail::new("\n", &[]).to_string(), "");
    }
}
