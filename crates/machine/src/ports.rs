//! Ports of the host that lead into the helper VM: what hulld, the agent and the supervisor say of them.
//!
//! Connections to such a port, and the datagrams of each of its clients, have a stream of the link of their own. On one for
//! datagrams each has its length before it (2 bytes, little endian), in both directions.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use tokio_util::codec::LengthDelimitedCodec;

/// The longest datagram, in bytes: what its length field can say.
pub(crate) const MAX_DATAGRAM: usize = u16::MAX as usize;

/// What a port is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// What it is of.
    pub protocol: PortProtocol,
    /// The host's address, or the unspecified one for all addresses of that kind, and of no other kind.
    pub address: IpAddr,
    /// Its number, not 0.
    pub port: u16,
}

impl HostPort {
    /// Where hulld listens in the VM for what comes to this port. The VM has loopback addresses in common with the host, and
    /// those alone.
    pub(crate) fn in_vm(&self) -> SocketAddr {
        let address = match self.address {
            address if address.is_loopback() => address,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(address, self.port)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            PortProtocol::Tcp => "tcp",
            PortProtocol::Udp => "udp",
        };
        write!(f, "{}/{protocol}", SocketAddr::new(self.address, self.port))
    }
}

/// What the agent wants of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortOrder {
    /// Listen on a port.
    Listen {
        /// Names the port from now on.
        id: u64,
        /// Which.
        port: HostPort,
    },
    /// Listen on it no more, and end its connections. One that is not listened on is no error.
    Close {
        /// Which.
        id: u64,
    },
}

impl PortOrder {
    /// Which port it is about.
    pub fn id(&self) -> u64 {
        match self {
            PortOrder::Listen { id, .. } | PortOrder::Close { id } => *id,
        }
    }
}

/// What became of a [`PortOrder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortAnswer {
    /// Which port it is about.
    pub id: u64,
    /// Why it was not carried out; `None` when it was.
    pub refusal: Option<PortRefusal>,
}

/// Why the host does not listen on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRefusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people.
    pub error: String,
}

/// The reasons that a program may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// Somebody has the port.
    InUse,
    /// The user who runs the helper VM may not have it.
    Denied,
    /// The host has no such address, or none of that kind.
    NoAddress,
    /// Something else.
    Other,
}

/// How datagrams lie on a stream.
pub(crate) fn datagrams() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_type::<u16>()
        .max_frame_length(MAX_DATAGRAM)
        .new_codec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: &str) -> HostPort {
        HostPort {
            protocol: PortProtocol::Tcp,
            address: address.parse().unwrap(),
            port: 80,
        }
    }

    #[test]
    fn the_vm_is_spoken_to_on_its_loopback() {
        for (on_host, in_vm) in [
            ("0.0.0.0", "127.0.0.1:80"),
            ("127.0.0.2", "127.0.0.2:80"),
            ("192.0.2.1", "127.0.0.1:80"),
            ("::", "[::1]:80"),
            ("::1", "[::1]:80"),
            ("2001:db8::1", "[::1]:80"),
        ] {
            assert_eq!(port(on_host).in_vm().to_string(), in_vm, "{on_host}");
        }
    }

    #[test]
    fn ports_are_named_as_docker_does() {
        assert_eq!(port("0.0.0.0").to_string(), "0.0.0.0:80/tcp");
        assert_eq!(port("::").to_string(), "[::]:80/tcp");
    }
}
