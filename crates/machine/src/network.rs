//! The helper VM's network: QEMU's user-mode stack (slirp), which needs neither privileges nor an interface on the host.
//!
//! To the host each of the VM's connections is a connection of the QEMU process, which runs as this user: the VM reaches what
//! this user reaches, and nobody reaches the VM. Addresses are fixed, so that the VM need not ask for one.

use std::net::{Ipv4Addr, Ipv6Addr};

/// From the block for benchmarks (RFC 2544, section C.2.2), in which no registry lies; slirp's own default, 10.0.2.0/24, hides
/// a network that companies and other virtual machines use.
const PREFIX_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const PREFIX_V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0);
pub(crate) const PREFIX_LENGTH_V4: u8 = 24;
pub(crate) const PREFIX_LENGTH_V6: u8 = 64;

/// The VM's own addresses. The IPv6 one is site-local on purpose: a name with addresses of both kinds is then tried over IPv4
/// first (RFC 6724, rule 5), which works on a host without IPv6, too.
pub(crate) const GUEST_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 15);
pub(crate) const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 15);
/// The gateway. A connection to it is one to the host's own loopback address of that kind.
pub(crate) const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);
/// Passes questions on to the name server that the host uses at the moment.
pub(crate) const DNS_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
const DNS_V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 3);

/// QEMU's `-netdev` option for this network.
pub(crate) fn netdev(id: &str) -> String {
    format!(
        "user,id={id},ipv4=on,net={PREFIX_V4}/{PREFIX_LENGTH_V4},host={HOST_V4},dns={DNS_V4},\
         ipv6=on,ipv6-net={PREFIX_V6}/{PREFIX_LENGTH_V6},ipv6-host={HOST_V6},ipv6-dns={DNS_V6}"
    )
}
