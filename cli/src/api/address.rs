//! A daemon's address, as `--host` has it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::endpoint::EndpointError;

/// The port of Docker's API without TLS.
const PORT: u16 = 2375;
/// The port of Docker's API with TLS.
const TLS_PORT: u16 = 2376;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name, or an address; one of IPv6 without its brackets.
        host: String,
        /// The one that Docker has for TLS or for no TLS, if none is given.
        port: Option<u16>,
    },
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
        let rest = text.strip_prefix("tcp://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port {
            "" => None,
            port => {
                let digits = port.strip_prefix(':').ok_or_else(wrong)?;
                Some(digits.parse().map_err(|_| wrong())?)
            }
        };
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// The port to connect to.
    pub(crate) fn port(given: Option<u16>, tls: bool) -> u16 {
        given.unwrap_or(if tls { TLS_PORT } else { PORT })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => {
                if host.contains(':') {
                    write!(f, "tcp://[{host}]")?;
                } else {
                    write!(f, "tcp://{host}")?;
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
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

    #[test]
    fn the_usual_port_depends_on_tls() {
        assert_eq!(
            (Address::port(None, true), Address::port(None, false)),
            (2376, 2375)
        );
    }
}
