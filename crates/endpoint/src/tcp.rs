//! `HOST[:PORT]`.

use std::fmt;
use std::str::FromStr;

/// The port of Docker's API without TLS.
const PORT: u16 = 2375;
/// The port of Docker's API with TLS.
const TLS_PORT: u16 = 2376;

/// A host and a port, as they stand behind `tcp://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress {
    /// A name, or an address; one of IPv6 has no brackets here.
    pub host: String,
    /// The one that Docker has for TLS or for no TLS, if none is given.
    pub port: Option<u16>,
}

/// What is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP address is HOST or HOST:PORT, with an address of IPv6 in brackets")]
pub struct NoTcpAddress;

impl TcpAddress {
    /// The port, with or without TLS.
    pub fn port(&self, tls: bool) -> u16 {
        self.port.unwrap_or(if tls { TLS_PORT } else { PORT })
    }
}

impl FromStr for TcpAddress {
    type Err = NoTcpAddress;

    fn from_str(text: &str) -> Result<Self, NoTcpAddress> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(NoTcpAddress)?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        if host.is_empty() || host.contains('/') {
            return Err(NoTcpAddress);
        }
        let number = |port: &str| port.strip_prefix(':')?.parse().ok();
        let port = match port {
            "" => None,
            port => Some(number(port).ok_or(NoTcpAddress)?),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_as_they_are_read() {
        for text in [
            "0.0.0.0:2376",
            "[::1]:1",
            "[::1]",
            "localhost",
            "build.example:80",
        ] {
            assert_eq!(text.parse::<TcpAddress>().unwrap().to_string(), text);
        }
        let address: TcpAddress = "[::1]/".parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", None));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "", "/", ":2376", "a:99999", "a:", "a:x", "[::1", "[::1]2", "[]:1", "a/b", "::1",
        ] {
            assert_eq!(text.parse::<TcpAddress>(), Err(NoTcpAddress), "{text}");
        }
    }

    #[test]
    fn the_usual_port_depends_on_tls() {
        let address = |text: &str| text.parse::<TcpAddress>().unwrap();
        assert_eq!((address("a").port(true), address("a").port(false)), (2376, 2375));
        assert_eq!(address("a:0").port(true), 0);
    }
}
