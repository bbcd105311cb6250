//! A UDP socket that knows which of its addresses it was asked at, and answers from there.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The room for the longest datagram (the length in an IP header has 16 bits).
pub(super) const MAX_DATAGRAM: usize = 65535;

/// One that sends datagrams to a port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    /// Its address and port.
    pub(super) address: SocketAddr,
    /// Where it sends them; `None` has the kernel choose the address to answer from.
    pub(super) asked: Option<Asked>,
}

/// An address of the host that a client sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// One of IPv4.
    V4(Ipv4Addr),
    /// One of IPv6, and its interface if it is the address of a link; 0 otherwise.
    V6(Ipv6Addr, u32),
}

/// A socket bound to a port of the host, which takes datagrams with the address that they were sent to.
pub(super) struct Datagrams {
    socket: UdpSocket,
}

impl Datagrams {
    /// Of a socket that `bind::udp` has made.
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self { socket }
    }

    /// The next datagram: its length in `buffer`, and who sent it.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Client)> {
        let receive = || self.receive_now(buffer);
        self.socket.async_io(Interest::READABLE, receive).await
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<(usize, Client)> {
        let mut control = cmsg_space!(in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut control), flags)?;
        let address = message.address.as_ref().and_then(socket_address);
        let address = address.ok_or_else(|| io::Error::other("a datagram without a sender"))?;
        let asked = message.cmsgs()?.find_map(asked);
        Ok((message.bytes, Client { address, asked }))
    }

    /// Sends a datagram to a client, from the address that the client asked.
    pub(super) async fn answer(&self, datagram: &[u8], client: &Client) -> io::Result<()> {
        let answer = || self.answer_now(datagram, client);
        self.socket.async_io(Interest::WRITABLE, answer).await
    }

    fn answer_now(&self, datagram: &[u8], client: &Client) -> io::Result<()> {
        let v4 = |address: Ipv4Addr| in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes(address.octets()),
            },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let v6 = |address: Ipv6Addr, interface| in6_pktinfo {
            ipi6_addr: in6_addr {
                s6_addr: address.octets(),
            },
            ipi6_ifindex: interface,
        };
        match client.asked {
            Some(Asked::V4(address)) => {
                self.send_now(datagram, client, &[ControlMessage::Ipv4PacketInfo(&v4(address))])
            }
            Some(Asked::V6(address, interface)) => {
                let information = v6(address, interface);
                self.send_now(datagram, client, &[ControlMessage::Ipv6PacketInfo(&information)])
            }
            None => self.send_now(datagram, client, &[]),
        }
    }

    fn send_now(&self, datagram: &[u8], client: &Client, control: &[ControlMessage<'_>]) -> io::Result<()> {
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let address = SockaddrStorage::from(client.address);
        sendmsg(socket, &[IoSlice::new(datagram)], control, flags, Some(&address))?;
        Ok(())
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

/// Which address to answer from.
fn asked(message: ControlMessageOwned) -> Option<Asked> {
    match message {
        // That of the host, also where the datagram went to a broadcast or multicast address.
        ControlMessageOwned::Ipv4PacketInfo(information) => {
            let octets = information.ipi_spec_dst.s_addr.to_ne_bytes();
            Some(Asked::V4(Ipv4Addr::from(octets)))
        }
        ControlMessageOwned::Ipv6PacketInfo(information) => {
            let address = Ipv6Addr::from(information.ipi6_addr.s6_addr);
            let interface = match address.is_unicast_link_local() {
                true => information.ipi6_ifindex,
                false => 0,
            };
            // Nobody can answer from the address of a group.
            (!address.is_multicast()).then_some(Asked::V6(address, interface))
        }
        _ => None,
    }
}
