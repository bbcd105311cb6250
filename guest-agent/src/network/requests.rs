//! What the kernel is asked to do with interfaces, addresses and routes, rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::Request;

/// Moves an interface to another network namespace. There it has the same index: if that is taken, or its name is, it
/// is refused and not moved.
pub(super) fn send(index: u32, to: BorrowedFd<'_>) -> Request {
    link(index, 0, 0)
        .with(libc::IFLA_NET_NS_FD, &to.as_raw_fd().to_ne_bytes())
        .with(libc::IFLA_NEW_IFINDEX, &index.to_ne_bytes())
}

/// Moves it as [`send`] does, and gives it a name that nobody has there, whatever its name is here.
pub(super) fn send_as(index: u32, to: BorrowedFd<'_>, name: &str) -> Request {
    send(index, to).with_text(libc::IFLA_IFNAME, name)
}

/// Gives an interface that is down its name, hardware address and MTU.
pub(super) fn identify(index: u32, name: &str, mac: [u8; 6], mtu: u32) -> Request {
    link(index, 0, 0)
        .with_text(libc::IFLA_IFNAME, name)
        .with(libc::IFLA_ADDRESS, &mac)
        .with(libc::IFLA_MTU, &mtu.to_ne_bytes())
}

/// Brings an interface up.
pub(super) fn bring_up(index: u32) -> Request {
    link(index, libc::IFF_UP as u32, libc::IFF_UP as u32)
}

/// A change of an interface: of those flags that are in `mask`, and of what attributes say. The header is a
/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, mask: u32) -> Request {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&mask.to_ne_bytes());
    Request::new(libc::RTM_NEWLINK, 0, &header)
}

/// Gives an interface an address. An IPv6 one serves at once: the host has seen to it that nobody else has it. The
/// header is a `struct ifaddrmsg`.
pub(super) fn add_address(index: u32, address: IpAddr, prefix: u8) -> Request {
    let flags = match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => libc::IFA_F_NODAD as u8,
    };
    let mut header = [
        family(address),
        prefix,
        flags,
        libc::RT_SCOPE_UNIVERSE,
        0,
        0,
        0,
        0,
    ];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let request = Request::new(
        libc::RTM_NEWADDR,
        libc::NLM_F_CREATE | libc::NLM_F_REPLACE,
        &header,
    )
    .with(libc::IFA_LOCAL, &octets(address))
    .with(libc::IFA_ADDRESS, &octets(address));
    match address {
        IpAddr::V4(address) => match broadcast(address, prefix) {
            Some(broadcast) => request.with(libc::IFA_BROADCAST, &broadcast.octets()),
            None => request,
        },
        IpAddr::V6(_) => request,
    }
}

/// The address for all of a subnet, where it has one (RFC 3021).
fn broadcast(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(prefix.into())?;
    (prefix <= 30).then(|| Ipv4Addr::from_bits(address.to_bits() | hosts))
}

/// Makes the default route lead to a gateway that is reached over an interface, and not where it led before.
pub(super) fn set_default_route(index: u32, gateway: IpAddr) -> Request {
    default_route(
        libc::RTM_NEWROUTE,
        libc::NLM_F_CREATE | libc::NLM_F_REPLACE,
        index,
        gateway,
    )
}

/// Removes the default route that [`set_default_route`] has made.
pub(super) fn remove_default_route(index: u32, gateway: IpAddr) -> Request {
    default_route(libc::RTM_DELROUTE, 0, index, gateway)
}

/// The header is a `struct rtmsg`.
fn default_route(kind: u16, flags: i32, index: u32, gateway: IpAddr) -> Request {
    let mut header = [0; 12];
    header[0] = family(gateway);
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = libc::RTPROT_BOOT;
    header[6] = libc::RT_SCOPE_UNIVERSE;
    header[7] = libc::RTN_UNICAST;
    Request::new(kind, flags, &header)
        .with(libc::RTA_GATEWAY, &octets(gateway))
        .with(libc::RTA_OIF, &index.to_ne_bytes())
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_subnet_with_hosts_has_a_broadcast_address() {
        let of = |prefix| broadcast(Ipv4Addr::new(10, 1, 2, 1), prefix);
        assert_eq!(of(0), Some(Ipv4Addr::BROADCAST));
        assert_eq!(of(8), Some(Ipv4Addr::new(10, 255, 255, 255)));
        assert_eq!(of(30), Some(Ipv4Addr::new(10, 1, 2, 3)));
        for prefix in [31, 32, 33, 255] {
            assert_eq!(of(prefix), None, "{prefix}");
        }
    }
}
