//! `EXPOSE`: ports, ranges of them, and their protocol.

use crate::diagnostic::quoted;
use std::fmt;
use thiserror::Error;

/// Ports that a container listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// Their protocol.
    pub protocol: Protocol,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// A port that is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PortError {
    /// Not a number up to 65535, or a range that ends before it begins.
    #[error("invalid containerPort: {0}")]
    Number(String),
    /// Another protocol.
    #[error("invalid proto: {0}")]
    Protocol(String),
}

impl Port {
    /// Reads one word, its variables expanded: `80`, `80/udp`, `8000-8010/tcp`. A host's address and port in front of it
    /// are left out, as Docker does.
    pub fn parse(text: &str) -> Result<Port, PortError> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(PortError::Protocol(quoted(protocol))),
        };
        let ports = ports.rsplit(':').next().unwrap_or(ports);
        let number = || PortError::Number(quoted(text));
        let read = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse::<u16>().ok(),
            false => None,
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (read(first).ok_or_else(number)?, read(last).ok_or_else(number)?);
        match first <= last {
            true => Ok(Port {
                first,
                last,
                protocol,
            }),
            false => Err(number()),
        }
    }

    /// Each port as an image's configuration names it (`80/tcp`).
    pub fn names(self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(move |port| format!("{port}/{}", self.protocol))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_ranges_and_protocols() {
        for (text, first, last, protocol) in [
            ("80", 80, 80, Protocol::Tcp),
            ("53/udp", 53, 53, Protocol::Udp),
            ("53/UDP", 53, 53, Protocol::Udp),
            ("8000-8002/sctp", 8000, 8002, Protocol::Sctp),
            ("8080:80", 80, 80, Protocol::Tcp),
            ("127.0.0.1:8080:80/tcp", 80, 80, Protocol::Tcp),
        ] {
            assert_eq!(
                Port::parse(text),
                Ok(Port {
                    first,
                    last,
                    protocol
                }),
                "{text}"
            );
        }
        let names: Vec<_> = Port::parse("8000-8001/udp").unwrap().names().collect();
        assert_eq!(names, ["8000/udp", "8001/udp"]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "http", "65536", "2-1", "-1", "80/icmp", "+80", "1-2-3"] {
            assert!(Port::parse(text).is_err(), "{text}");
        }
    }
}
