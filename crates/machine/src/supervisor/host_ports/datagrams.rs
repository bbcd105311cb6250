//! A UDP socket that answers from the address that was asked: a host has several, and a client takes an answer from no other
//! (ip(7), `IP_PKTINFO`; RFC 3542, section 6.1).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Who sent a datagram, and to which address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    address: SocketAddr,
    asked: IpAddr,
    /// The interface that the address is on, for one that means nothing without; else 0.
    interface: u32,
}

/// The socket.
pub(super) struct Datagrams(UdpSocket);

impl Datagrams {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        if socket.local_addr()?.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Datagrams(socket))
    }

    /// Receive one datagram: its length, and who sent it. What does not fit into the buffer is lost.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        let read = || receive_now(&self.0, buffer);
        self.0.async_io(Interest::READABLE, read).await
    }

    /// Send one datagram to who sent one before.
    pub(super) async fn send(&self, datagram: &[u8], to: &Peer) -> io::Result<()> {
        let write = || send_now(&self.0, datagram, to);
        self.0.async_io(Interest::WRITABLE, write).await
    }
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
    // Room for either kind.
    let mut control = nix::cmsg_space!(in_pktinfo, in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let sender = received.address.as_ref().and_then(socket_address);
    let address = sender.ok_or_else(|| io::Error::other("a datagram has no sender's address"))?;
    let (asked, interface) = received
        .cmsgs()?
        .find_map(asked)
        .unwrap_or((unspecified(address), 0));
    let peer = Peer {
        address,
        asked,
        interface,
    };
    Ok((received.bytes, peer))
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|&a| SocketAddr::V4(SocketAddrV4::from(a)));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|&a| SocketAddr::V6(SocketAddrV6::from(a)))
    })
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The host's address that a datagram came to, and its interface where it needs one. Nobody answers from a group's address.
fn asked(message: ControlMessageOwned) -> Option<(IpAddr, u32)> {
    match message {
        // In network order; the kernel has chosen a unicast address here.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let address = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
            Some((address.into(), 0))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            if address.is_multicast() {
                return None;
            }
            let interface = if address.is_unicast_link_local() {
                info.ipi6_ifindex
            } else {
                0
            };
            Some((address.into(), interface))
        }
        _ => None,
    }
}

fn send_now(socket: &UdpSocket, datagram: &[u8], to: &Peer) -> io::Result<()> {
    let parts = [IoSlice::new(datagram)];
    let address = SockaddrStorage::from(to.address);
    let send = |control: ControlMessage<'_>| {
        sendmsg(
            socket.as_raw_fd(),
            &parts,
            &[control],
            MsgFlags::empty(),
            Some(&address),
        )
    };
    match to.asked {
        IpAddr::V4(from) => send(ControlMessage::Ipv4PacketInfo(&in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes(from.octets()),
            },
            ipi_addr: in_addr { s_addr: 0 },
        })),
        IpAddr::V6(from) => send(ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
            ipi6_addr: in6_addr {
                s6_addr: from.octets(),
            },
            ipi6_ifindex: to.interface,
        })),
    }?;
    Ok(())
}
