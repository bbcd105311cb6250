//! A daemon's address, as `--host` has it.

use std::fmt;
use std::path::{Path, PathBuf};

use ::endpoint::TcpAddress;

use super::endpoint::EndpointError;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(TcpAddress),
}

impl Address {
    /// Reads `unix:///PATH` or `tcp://HOST[:PORT]`.
    pub(crate) fn parse(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Unsupported {
            host: text.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix://").map(Path::new) {
            let absolute = path.is_absolute().then(|| path.to_owned());
            return absolute.map(Self::Unix).ok_or_else(wrong);
        }
        let tcp = text.strip_prefix("tcp://").and_then(|tcp| tcp.parse().ok());
        tcp.map(Self::Tcp).ok_or_else(wrong)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_as_they_are_read() {
        for text in [
            "unix:///run/x.sock",
            "tcp://10.0.0.1:2376",
            "tcp://[::1]:1",
            "tcp://build.example",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for host in [
            "unix://relative.sock",
            "/run/hull.sock",
            "tcp://",
            "tcp://:2376",
            "tcp://a:x",
            "tcp://[::1",
            "ssh://a",
        ] {
            let error = Address::parse(host).unwrap_err().to_string();
            assert!(error.contains(host), "{error}");
        }
    }
}
