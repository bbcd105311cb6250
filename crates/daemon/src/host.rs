//! An address that the API is served at, as `--host` has it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use endpoint::TcpAddress;

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A unix socket at a path.
    Unix(PathBuf),
    /// A TCP port of an address or a name of this host.
    Tcp(TcpAddress),
    /// The sockets that this process was started with (`sd_listen_fds(3)`).
    Inherited,
}

/// What is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on `{0}`: give unix://PATH, tcp://ADDRESS[:PORT], or fd:// for the sockets of a systemd socket unit"
)]
pub(crate) struct HostError(String);

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
        let tcp = text.strip_prefix("tcp://").and_then(|tcp| tcp.parse().ok());
        tcp.map(Self::Tcp).ok_or_else(wrong)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
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
}
