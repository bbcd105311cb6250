//! Frames that a guest may send, and frames that it may not.

use crate::frames::*;
use crate::lab::mac;

const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OWN_LOCAL: &str = "fe80::ff:fe00:2";
const OTHER_LOCAL: &str = "fe80::ff:fe00:9";
const ALL_NODES: &str = "ff02::1";

type Sample = (&'static str, Vec<u8>);

/// Frames of the container `hullt2` at 172.17.0.2, 172.17.0.22 and fd00:17::2.
pub(crate) fn own() -> Vec<Sample> {
    let v4 = |packet: Vec<u8>| frame(BROADCAST, mac(2), IPV4, &packet);
    let v6 = |packet: Vec<u8>| frame(BROADCAST, mac(2), IPV6, &packet);
    let echo = |from| v6(icmpv6(from, ALL_NODES, 128, &[0; 8]));
    let nd = |from, to, kind, target| v6(icmpv6(from, to, kind, &about(target)));
    vec![
        (
            "IPv4",
            v4(ipv4("172.17.0.2", "172.17.0.255", UDP, &udp(1, 2, b""))),
        ),
        (
            "second IPv4 address",
            v4(ipv4("172.17.0.22", "172.17.0.255", UDP, &udp(1, 2, b""))),
        ),
        (
            "IGMP report",
            v4(ipv4(
                "172.17.0.2",
                "224.1.1.1",
                IGMP,
                &[0x16, 0, 0, 0, 224, 1, 1, 1],
            )),
        ),
        ("ARP", frame(BROADCAST, mac(2), ARP, &arp(mac(2), "172.17.0.2"))),
        ("IPv6", echo("fd00:17::2")),
        ("IPv6, link-local", echo(OWN_LOCAL)),
        (
            "UDP on IPv6",
            v6(ipv6("fd00:17::2", ALL_NODES, UDP, &udp(1, 2, b""))),
        ),
        ("echo behind options", {
            let message = icmpv6_message("fd00:17::2", ALL_NODES, 128, &[0; 8]);
            v6(ipv6(
                "fd00:17::2",
                ALL_NODES,
                DESTINATION_OPTIONS,
                &options(ICMPV6, &message),
            ))
        }),
        ("first fragment", {
            let message = icmpv6_message("fd00:17::2", ALL_NODES, 128, &[0; 12]);
            v6(ipv6(
                "fd00:17::2",
                ALL_NODES,
                FRAGMENT,
                &fragment(ICMPV6, 0, true, &message),
            ))
        }),
        (
            "later fragment",
            v6(ipv6(
                "fd00:17::2",
                ALL_NODES,
                FRAGMENT,
                &fragment(ICMPV6, 2, false, &[0; 8]),
            )),
        ),
        (
            "solicitation",
            nd("fd00:17::2", "ff02::1:ff00:3", 135, "fd00:17::3"),
        ),
        (
            "detection of duplicates",
            nd("::", "ff02::1:ff00:2", 135, "fd00:17::2"),
        ),
        (
            "detection of duplicates, link-local",
            nd("::", "ff02::1:ff00:2", 135, OWN_LOCAL),
        ),
        ("advertisement", nd(OWN_LOCAL, ALL_NODES, 136, "fd00:17::2")),
        (
            "router solicitation",
            v6(icmpv6(OWN_LOCAL, "ff02::2", 133, &[0; 4])),
        ),
        ("MLD report", v6(icmpv6(OWN_LOCAL, "ff02::16", 143, &[0; 4]))),
        ("MLD report of nobody yet", {
            let message = icmpv6_message("::", "ff02::16", 143, &[0; 4]);
            v6(ipv6("::", "ff02::16", HOP_BY_HOP, &options(ICMPV6, &message)))
        }),
    ]
}

/// Frames that no container may send.
pub(crate) fn forged() -> Vec<Sample> {
    let v4 = |packet: Vec<u8>| frame(BROADCAST, mac(2), IPV4, &packet);
    let v6 = |packet: Vec<u8>| frame(BROADCAST, mac(2), IPV6, &packet);
    let packet = || ipv4("172.17.0.2", "172.17.0.255", UDP, &udp(1, 2, b""));
    let tagged = |kind: u16, tag: [u8; 2]| {
        let inner = [&tag[..], &IPV4.to_be_bytes(), &packet()].concat();
        frame(BROADCAST, mac(2), kind, &inner)
    };
    let sender = |mac_of, address| frame(BROADCAST, mac(2), ARP, &arp(mac_of, address));
    let echo = |from| v6(icmpv6(from, ALL_NODES, 128, &[0; 8]));
    let nd = |from, to, kind, target| v6(icmpv6(from, to, kind, &about(target)));
    let advertisement = || icmpv6_message(OWN_LOCAL, ALL_NODES, 136, &about("fd00:17::9"));
    let router = || icmpv6_message(OWN_LOCAL, ALL_NODES, 134, &[0; 12]);
    let headed = |next, payload: Vec<u8>| v6(ipv6(OWN_LOCAL, ALL_NODES, next, &payload));
    let mut odd_arp = arp(mac(2), "172.17.0.2");
    odd_arp[4] = 8;
    let mut reverse_arp = arp(mac(2), "172.17.0.2");
    reverse_arp[7] = 3;
    vec![
        ("MAC", frame(BROADCAST, OTHER, IPV4, &packet())),
        (
            "the gateway's IPv4 address",
            v4(ipv4("172.17.0.1", "172.17.0.255", UDP, &udp(1, 2, b""))),
        ),
        (
            "the neighbour's IPv4 address",
            v4(ipv4("172.17.0.3", "172.17.0.255", UDP, &udp(1, 2, b""))),
        ),
        (
            "DHCP",
            v4(ipv4("0.0.0.0", "255.255.255.255", UDP, &udp(68, 67, b""))),
        ),
        (
            "DHCP server",
            v4(ipv4("172.17.0.2", "255.255.255.255", UDP, &udp(67, 68, b""))),
        ),
        (
            "IGMP query",
            v4(ipv4(
                "172.17.0.2",
                "224.0.0.1",
                IGMP,
                &[0x11, 0, 0, 0, 0, 0, 0, 0],
            )),
        ),
        ("ARP of an address", sender(mac(2), "172.17.0.1")),
        ("ARP of a MAC", sender(OTHER, "172.17.0.2")),
        ("ARP probe", sender(mac(2), "0.0.0.0")),
        ("ARP with long addresses", frame(BROADCAST, mac(2), ARP, &odd_arp)),
        (
            "ARP that asks for itself",
            frame(BROADCAST, mac(2), ARP, &reverse_arp),
        ),
        (
            "RARP",
            frame(BROADCAST, mac(2), 0x8035, &arp(mac(2), "172.17.0.2")),
        ),
        ("IPv6 address", echo("fd00:17::3")),
        ("link-local address", echo(OTHER_LOCAL)),
        ("no address", echo("::")),
        (
            "no address behind options",
            v6(ipv6(
                "::",
                ALL_NODES,
                DESTINATION_OPTIONS,
                &options(UDP, &udp(1, 2, b"")),
            )),
        ),
        (
            "UDP from an IPv6 address",
            v6(ipv6("fd00:17::3", ALL_NODES, UDP, &udp(1, 2, b""))),
        ),
        (
            "later fragment",
            v6(ipv6(
                "fd00:17::3",
                ALL_NODES,
                FRAGMENT,
                &fragment(ICMPV6, 2, false, &[0; 8]),
            )),
        ),
        (
            "solicitation",
            nd("fd00:17::3", "ff02::1:ff00:9", 135, "fd00:17::9"),
        ),
        (
            "detection of another's duplicates",
            nd("::", "ff02::1:ff00:3", 135, "fd00:17::3"),
        ),
        (
            "advertisement of the gateway",
            nd(OWN_LOCAL, ALL_NODES, 136, "fd00:17::1"),
        ),
        (
            "advertisement by another",
            nd(OTHER_LOCAL, ALL_NODES, 136, "fd00:17::2"),
        ),
        (
            "advertisement without a target",
            v6(icmpv6(OWN_LOCAL, ALL_NODES, 136, &[])),
        ),
        (
            "advertisement behind options",
            headed(DESTINATION_OPTIONS, options(ICMPV6, &advertisement())),
        ),
        (
            "advertisement in one fragment",
            headed(FRAGMENT, fragment(ICMPV6, 0, false, &advertisement())),
        ),
        ("own advertisement in fragments", {
            let message = icmpv6_message(OWN_LOCAL, ALL_NODES, 136, &about("fd00:17::2"));
            headed(FRAGMENT, fragment(ICMPV6, 0, true, &message))
        }),
        (
            "fragment before its header",
            headed(
                FRAGMENT,
                fragment(DESTINATION_OPTIONS, 0, true, &[ICMPV6, 9, 1, 4]),
            ),
        ),
        ("router", headed(ICMPV6, router())),
        (
            "router behind options",
            headed(HOP_BY_HOP, options(ICMPV6, &router())),
        ),
        (
            "router in fragments",
            headed(FRAGMENT, fragment(ICMPV6, 0, true, &router())),
        ),
        ("redirect", v6(icmpv6(OWN_LOCAL, ALL_NODES, 137, &[0; 36]))),
        ("MLD query", v6(icmpv6(OWN_LOCAL, ALL_NODES, 130, &[0; 20]))),
        (
            "DHCPv6 server",
            v6(ipv6(OWN_LOCAL, ALL_NODES, UDP, &udp(547, 546, b""))),
        ),
        (
            "DHCPv6",
            v6(ipv6(OWN_LOCAL, "ff02::1:2", UDP, &udp(546, 547, b""))),
        ),
        ("VLAN", tagged(0x8100, [0, 5])),
        ("VLAN 0", tagged(0x8100, [0x20, 0])),
        ("service VLAN", tagged(0x88a8, [0, 5])),
        (
            "STP",
            frame(
                [1, 0x80, 0xc2, 0, 0, 0],
                mac(2),
                38,
                &[0x42, 0x42, 3, 0, 0, 0, 0, 0],
            ),
        ),
        (
            "STP to all",
            frame(BROADCAST, mac(2), 38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]),
        ),
        ("LLDP to all", frame(BROADCAST, mac(2), 0x88cc, &[0; 40])),
        ("PPPoE", frame(BROADCAST, mac(2), 0x8863, &[0; 40])),
        ("an unknown protocol", frame(BROADCAST, mac(2), 0x88b5, &[0; 40])),
    ]
}
