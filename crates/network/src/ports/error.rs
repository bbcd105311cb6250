//! Why a port cannot be had.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;

use super::Listen;

/// A port of the host and where it was to lead; written as Docker writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The port of the host.
    pub listen: Listen,
    /// The port of the container.
    pub target: SocketAddr,
}

impl fmt::Display for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, protocol) = (self.listen.socket_address(), self.listen.protocol);
        write!(formatter, "{host}:{}/{protocol}", self.target)
    }
}

/// A port of the host cannot be had; in Docker's words where Docker has some.
#[derive(Debug, Error)]
pub enum PortError {
    /// Somebody has the port.
    #[error("failed to bind host port for {binding}: address already in use")]
    InUse {
        /// The port, and where it was to lead.
        binding: Binding,
    },
    /// The port is one of the privileged.
    #[error(
        "failed to bind host port for {binding}: permission denied: a port below net.ipv4.ip_unprivileged_port_start takes the \
         capability CAP_NET_BIND_SERVICE; ask for a higher port, or run hulld as root"
    )]
    NotPermitted {
        /// The port, and where it was to lead.
        binding: Binding,
    },
    /// The address is not one of the host's.
    #[error(
        "failed to bind host port for {binding}: cannot assign requested address: no interface of the host has {address}; \
         ask for an address that `ip address` lists"
    )]
    NoSuchAddress {
        /// The port, and where it was to lead.
        binding: Binding,
        /// The address.
        address: IpAddr,
    },
    /// The host does not have the port for another reason.
    #[error("failed to bind host port for {binding}: {source}")]
    Bind {
        /// The port, and where it was to lead.
        binding: Binding,
        /// Why it failed.
        source: io::Error,
    },
    /// None is free of those that would do.
    #[error(
        "all ports are allocated: none of {first}-{last} is free on the host; ask for others, or stop what has them"
    )]
    UsedUp {
        /// The first that would do.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The outer host cannot be asked.
    #[error(
        "cannot ask for port {host} of the host that this machine runs on, at {socket}: {source}; see whether that host still \
         serves the socket"
    )]
    OuterUnreachable {
        /// The port.
        host: SocketAddr,
        /// Where it was asked for.
        socket: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The outer host has no such address; in its own words.
    #[error("{0}")]
    OuterNoAddress(String),
    /// The outer host does not have the port; in its own words.
    #[error("{0}")]
    OuterRefused(String),
}

impl PortError {
    /// Says why a socket could not be bound.
    pub(super) fn bind(binding: Binding, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => PortError::InUse { binding },
            io::ErrorKind::PermissionDenied => PortError::NotPermitted { binding },
            io::ErrorKind::AddrNotAvailable => PortError::NoSuchAddress {
                binding,
                address: binding.listen.socket_address().ip(),
            },
            _ => PortError::Bind { binding, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    #[test]
    fn errors_say_it_in_dockers_words() {
        let listen = |protocol, address: &str| Listen {
            protocol,
            address: address.parse().unwrap(),
            port: 80,
        };
        let text = |listen: Listen, errno: i32| {
            let target = "172.17.0.2:8000".parse().unwrap();
            PortError::bind(Binding { listen, target }, io::Error::from_raw_os_error(errno)).to_string()
        };
        assert_eq!(
            text(listen(Protocol::Tcp, "0.0.0.0"), nix::libc::EADDRINUSE),
            "failed to bind host port for 0.0.0.0:80:172.17.0.2:8000/tcp: address already in use"
        );
        let denied = text(listen(Protocol::Udp, "::"), nix::libc::EACCES);
        let expected = "failed to bind host port for [::]:80:172.17.0.2:8000/udp: permission denied: ";
        assert!(denied.starts_with(expected), "{denied}");
        let elsewhere = text(
            listen(Protocol::Tcp, "::ffff:192.0.2.9"),
            nix::libc::EADDRNOTAVAIL,
        );
        assert!(
            elsewhere.contains(" cannot assign requested address: no interface of the host has 192.0.2.9;")
        );
    }
}
