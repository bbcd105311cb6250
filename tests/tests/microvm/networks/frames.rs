//! Frames as a hostile container writes them. Each holds its own name, by which it is found in what was heard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::{NeighborAdvertisementHeader, RouterAdvertisementHeader};
use etherparse::{ArpEthIpv4Packet, ArpOperation, Icmpv6Type, PacketBuilder};

pub(super) type Frame = (&'static str, Vec<u8>);

const BROADCAST: [u8; 6] = [0xff; 6];
/// The group of all IPv6 hosts of a link, and the Ethernet address that it has.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// What neighbours must say in their messages (RFC 4861, section 7.1).
const HOP_LIMIT: u8 = 255;
/// The beginning of what says its sender's Ethernet address (RFC 4861, section 4.6.1): its type and length.
const LINK_ADDRESS: [u8; 2] = [2, 1];

/// A place in one of the test's networks, with the addresses that hull gives it.
#[derive(Clone, Copy)]
pub(super) struct Station {
    pub(super) mac: [u8; 6],
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
}

impl Station {
    pub(super) fn new(network: u8, number: u8) -> Self {
        let group = u16::from(network);
        Self {
            mac: [0x02, 0x42, 10, 126, network, number],
            v4: Ipv4Addr::new(10, 126, network, number),
            v6: Ipv6Addr::new(0xfd00, 0x126, group, 0, 0, 0, 0, u16::from(number)),
        }
    }

    /// The address that IPv6 makes of its Ethernet address (RFC 4291, appendix A).
    fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.map(u16::from);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            (a ^ 2) << 8 | b,
            c << 8 | 0xff,
            0xfe00 | d,
            e << 8 | f,
        )
    }
}

/// Who is there: the one who forges, its neighbour and their gateway, and the one in the other network with its gateway.
#[derive(Clone, Copy)]
pub(super) struct Scene {
    pub(super) forger: Station,
    pub(super) neighbour: Station,
    pub(super) gateway: Station,
    pub(super) victim: Station,
    pub(super) other_gateway: Station,
}

impl Scene {
    /// What the forger may send to its neighbour.
    pub(super) fn honest(&self) -> Vec<Frame> {
        let (own, to) = (self.forger, self.neighbour);
        vec![
            datagram("an honest IPv4 datagram", own.mac, to.mac, own.v4, to.v4),
            datagram("an honest IPv6 datagram", own.mac, to.mac, own.v6, to.v6),
            arp("an honest ARP reply", own, own.v4, to.mac),
            advertisement("an honest advertisement", own, own.link_local(), own.v6),
        ]
    }

    /// What it says it is, and is not.
    pub(super) fn forged(&self) -> Vec<Frame> {
        let Scene {
            forger: own,
            neighbour: to,
            gateway,
            ..
        } = *self;
        let stranger = Station::new(1, 99);
        let local = own.link_local();
        vec![
            datagram("a foreign MAC", stranger.mac, to.mac, own.v4, to.v4),
            datagram("the gateway's MAC", gateway.mac, to.mac, own.v4, to.v4),
            datagram("the neighbour's MAC", to.mac, BROADCAST, own.v4, to.v4),
            datagram("a foreign IPv4 source", own.mac, to.mac, stranger.v4, to.v4),
            datagram("the gateway's IPv4 source", own.mac, to.mac, gateway.v4, to.v4),
            datagram("a foreign IPv6 source", own.mac, to.mac, stranger.v6, to.v6),
            datagram("the gateway's IPv6 source", own.mac, to.mac, gateway.v6, to.v6),
            arp("an ARP reply for the neighbour", own, to.v4, BROADCAST),
            arp("an ARP reply for the gateway", own, gateway.v4, to.mac),
            advertisement("an advertisement of the neighbour", own, local, to.v6),
            advertisement("an advertisement of the gateway", own, local, gateway.v6),
            advertisement(
                "an advertisement as from the gateway",
                own,
                gateway.link_local(),
                gateway.v6,
            ),
            offer("a DHCP offer as from the gateway", own, gateway.v4),
            offer("a DHCP offer of its own", own, own.v4),
            router("a router advertisement", own, local),
            router(
                "a router advertisement as from the gateway",
                own,
                gateway.link_local(),
            ),
        ]
    }

    /// What goes straight to the one in the other network, which is nobody's to reach.
    pub(super) fn across(&self) -> Vec<Frame> {
        let Scene {
            forger: own,
            gateway,
            victim,
            other_gateway,
            ..
        } = *self;
        let (mac, near) = (own.mac, gateway.mac);
        vec![
            datagram("across, on the link", mac, victim.mac, own.v4, victim.v4),
            datagram("across, on the link, IPv6", mac, victim.mac, own.v6, victim.v6),
            datagram("across, by the own gateway", mac, near, own.v4, victim.v4),
            datagram("across, by the own gateway, IPv6", mac, near, own.v6, victim.v6),
            datagram(
                "across, by the other gateway",
                mac,
                other_gateway.mac,
                own.v4,
                victim.v4,
            ),
            datagram(
                "across, by the other gateway, IPv6",
                mac,
                other_gateway.mac,
                own.v6,
                victim.v6,
            ),
            datagram(
                "across, from the other network",
                mac,
                near,
                other_gateway.v4,
                victim.v4,
            ),
            datagram("across, to everybody", mac, BROADCAST, own.v4, victim.v4),
            arp("across, an ARP reply", own, victim.v4, victim.mac),
        ]
    }

    /// What arrives behind all else.
    pub(super) fn last(&self) -> Frame {
        let (own, to) = (self.forger, self.neighbour);
        datagram("the last datagram", own.mac, to.mac, own.v4, to.v4)
    }
}

fn datagram(
    name: &'static str,
    mac: [u8; 6],
    to_mac: [u8; 6],
    from: impl Into<IpAddr>,
    to: impl Into<IpAddr>,
) -> Frame {
    let addresses = (from.into(), to.into());
    (name, udp((mac, to_mac), addresses, (9000, 9000), name.as_bytes()))
}

fn udp(
    (mac, to_mac): ([u8; 6], [u8; 6]),
    addresses: (IpAddr, IpAddr),
    (port, to_port): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let frame = PacketBuilder::ethernet2(mac, to_mac);
    let packet = match addresses {
        (IpAddr::V4(from), IpAddr::V4(to)) => frame.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => frame.ipv6(from.octets(), to.octets(), 64),
        mixed => panic!("addresses of two families: {mixed:?}"),
    };
    let mut bytes = Vec::new();
    packet.udp(port, to_port).write(&mut bytes, payload).unwrap();
    bytes
}

/// Says that an address is the sender's.
fn arp(name: &'static str, own: Station, claimed: Ipv4Addr, to: [u8; 6]) -> Frame {
    let reply = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: own.mac,
        sender_ipv4: claimed.octets(),
        target_mac: to,
        target_ipv4: claimed.octets(),
    };
    let mut bytes = Vec::new();
    let frame = PacketBuilder::ethernet2(own.mac, to).arp(reply.into());
    frame.write(&mut bytes).unwrap();
    bytes.extend(name.as_bytes());
    (name, bytes)
}

/// The same in IPv6.
fn advertisement(name: &'static str, own: Station, from: Ipv6Addr, claimed: Ipv6Addr) -> Frame {
    let header = NeighborAdvertisementHeader {
        router: false,
        solicited: false,
        r#override: true,
    };
    let body = [&claimed.octets()[..], &LINK_ADDRESS, &own.mac].concat();
    to_all_nodes(name, own, from, Icmpv6Type::NeighborAdvertisement(header), &body)
}

fn router(name: &'static str, own: Station, from: Ipv6Addr) -> Frame {
    let header = RouterAdvertisementHeader {
        cur_hop_limit: 64,
        managed_address_config: false,
        other_config: false,
        router_lifetime: 1800,
    };
    to_all_nodes(name, own, from, Icmpv6Type::RouterAdvertisement(header), &[0; 8])
}

fn to_all_nodes(name: &'static str, own: Station, from: Ipv6Addr, kind: Icmpv6Type, body: &[u8]) -> Frame {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(own.mac, ALL_NODES_MAC)
        .ipv6(from.octets(), ALL_NODES.octets(), HOP_LIMIT)
        .icmpv6(kind)
        .write(&mut bytes, body)
        .unwrap();
    bytes.extend(name.as_bytes());
    (name, bytes)
}

/// An offer of an address to everybody (RFC 2131, section 2).
fn offer(name: &'static str, own: Station, from: Ipv4Addr) -> Frame {
    let mut message = vec![2, 1, 6, 0];
    message.resize(236, 0);
    // The mark of DHCP, the kind of message, and the end.
    message.extend([99, 130, 83, 99, 53, 1, 2, 255]);
    message.extend(name.as_bytes());
    let addresses = (from.into(), Ipv4Addr::BROADCAST.into());
    (name, udp((own.mac, BROADCAST), addresses, (67, 68), &message))
}
