//! An address that the API is served at, as `--host` has it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of Docker's API without TLS.
const PORT: u16 = 2375;
/// The port of Docker's API with TLS.
const TLS_PORT: u16 = 2376;

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A unix socket at a path.
    Unix(PathBuf),
    /// A TCP port of an address or a name of this host.
    Tcp {
        /// An IPv6 address has no brackets here.
        name: String,
        /// The one that clients expect, if there is none.
        port: Option<u16>,
    },
    /// The sockets that this process was started with (`sd_listen_fds(3)`).
    Inherited,
}

/// What is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on `{0}`: give unix://PATH, tcp://ADDRESS[:PORT], or fd:// for the sockets of a systemd socket unit"
)]
pub(crate) struct HostError(String);

impl Host {
    /// The port to bind.
    pub(crate) fn port(given: Option<u16>, tls: bool) -> u16 {
        given.unwrap_or(if tls { TLS_PORT } else { PORT })
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let wrong = || HostError(text.to_owned());
        if text == "fd://" {
            return Ok(Self::Inherited);
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                "" => Err(wrong()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let address = text.strip_prefix("tcp://").ok_or_else(wrong)?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let (name, port) = match address.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
            None => address.split_at(address.find(':').unwrap_or(address.len())),
        };
        let port = match port {
            "" => None,
            port => {
                let digits = port.strip_prefix(':').ok_or_else(wrong)?;
                Some(digits.parse().map_err(|_| wrong())?)
            }
        };
        if name.is_empty() || name.contains('/') {
            return Err(wrong());
        }
        Ok(Self::Tcp {
            name: name.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { name, port } => {
                if name.contains(':') {
                    write!(f, "tcp://[{name}]")?;
                } else {
                    write!(f, "tcp://{name}")?;
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Inherited => f.write_str("fd://"),
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
            "tcp://0.0.0.0:2376",
            "tcp://[::1]:2376",
            "tcp://localhost",
            "fd://",
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
        }
        let tcp = Host::Tcp {
            name: "::1".into(),
            port: None,
        };
        assert_eq!("tcp://[::1]".parse::<Host>().unwrap(), tcp);
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be() {
        for text in [
            "",
            "/run/x.sock",
            "unix://",
            "tcp://",
            "tcp://:2376",
            "tcp://a:99999",
            "tcp://a:",
            "tcp://[::1",
            "tcp://[::1]2",
            "tcp://a/b",
            "fd://3",
            "http://a",
        ] {
            let error = text.parse::<Host>().unwrap_err().to_string();
            assert!(error.contains("unix://PATH"), "{text}: {error}");
        }
    }

    #[test]
    fn the_usual_port_depends_on_tls() {
        assert_eq!(Host::port(None, true), 2376);
        assert_eq!(Host::port(None, false), 2375);
        assert_eq!(Host::port(Some(0), true), 0);
    }
}
