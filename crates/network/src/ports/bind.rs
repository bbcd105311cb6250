//! Sockets that listen on a port of the host.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, UdpSocket};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens for connections; within a tokio runtime.
pub(super) fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(address, SockType::Stream)?;
    // Connections that ended a minute ago do not keep the port; a socket that listens does.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    TcpListener::from_std(net::TcpListener::from(socket))
}

/// Takes datagrams, each with the address that it was sent to (ip(7) `IP_PKTINFO`, RFC 3542 section 6); within a tokio runtime.
pub(super) fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(address, SockType::Datagram)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    UdpSocket::from_std(net::UdpSocket::from(socket))
}

fn unbound(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, kind, flags, None)?;
    if address.is_ipv6() {
        // `[::]` would otherwise take the port of 0.0.0.0 as well.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(socket)
}
