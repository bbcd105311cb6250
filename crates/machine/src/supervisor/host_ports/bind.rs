//! The sockets of ports.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as BlockingTcpListener, UdpSocket as BlockingUdpSocket};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, UdpSocket};

use super::MAX_PORTS;
use super::datagrams::Datagrams;
use crate::ports::{HostPort, PortProtocol};

/// Connections that wait to be accepted, as far as the host's `net.core.somaxconn` allows.
const BACKLOG: i32 = 1024;

/// A port cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    /// The host's kernel does not give it.
    #[error("cannot listen on {port} on the host: {source}{}", hint(.source))]
    Refused {
        /// Which.
        port: HostPort,
        /// Why.
        source: io::Error,
    },
    /// A number that no port has.
    #[error("cannot listen on port 0 on the host: ports are numbered from 1 to 65535")]
    Zero,
    /// There is a limit.
    #[error(
        "cannot listen on another port on the host: the helper VM has {MAX_PORTS} there, which is the most it may have"
    )]
    TooMany,
}

/// What may be done about it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program has it: stop that one, or publish another port",
        io::ErrorKind::PermissionDenied => {
            "; only root may have it: publish a higher port, or lower the first one that all may have \
             (sysctl net.ipv4.ip_unprivileged_port_start)"
        }
        io::ErrorKind::AddrNotAvailable => "; publish on one of the addresses that `ip address` lists",
        _ if is_unknown_family(error) => "; the host's kernel has no IPv6",
        _ => "",
    }
}

/// Whether the kernel knows no addresses of this kind.
pub(super) fn is_unknown_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// The socket of a port.
pub(super) enum Socket {
    Tcp(TcpListener),
    Udp(Datagrams),
}

/// Take the port. An IPv6 address means IPv6 alone, so that both kinds can be listened on.
pub(super) fn bind(port: &HostPort) -> Result<Socket, BindError> {
    if port.port == 0 {
        return Err(BindError::Zero);
    }
    let bound = match port.protocol {
        PortProtocol::Tcp => listen(port).map(Socket::Tcp),
        PortProtocol::Udp => receive(port).map(Socket::Udp),
    };
    bound.map_err(|source| BindError::Refused { port: *port, source })
}

fn listen(port: &HostPort) -> io::Result<TcpListener> {
    let socket = open(port, SocketType::STREAM)?;
    // Connections of before that linger do not keep the port; one that is listened on is not shared by this.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::new(port.address, port.port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(BlockingTcpListener::from(socket))
}

fn receive(port: &HostPort) -> io::Result<Datagrams> {
    let socket = open(port, SocketType::DGRAM)?;
    rustix::net::bind(&socket, &SocketAddr::new(port.address, port.port))?;
    Datagrams::new(UdpSocket::from_std(BlockingUdpSocket::from(socket))?)
}

fn open(port: &HostPort, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match port.address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if port.address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}
