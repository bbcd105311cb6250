//! What a packet is, as far as its first bytes tell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::refusals::Refused;

/// Reads the head of an IP packet that was refused; nothing if it is none. A guest wrote it.
pub(super) fn read(head: &[u8]) -> Option<Refused> {
    let packet = LaxSlicedPacket::from_ip(head).ok()?;
    let net = packet.net.as_ref()?;
    let destination = match net {
        LaxNetSlice::Ipv4(ip) => IpAddr::from(Ipv4Addr::from(ip.header().destination())),
        LaxNetSlice::Ipv6(ip) => IpAddr::from(Ipv6Addr::from(ip.header().destination())),
        LaxNetSlice::Arp(_) => return None,
    };
    let port = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Some(tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => Some(udp.destination_port()),
        _ => None,
    };
    let number = net.ip_payload_ref()?.ip_number;
    Some(Refused::Packet {
        protocol: protocol(number),
        destination,
        port,
    })
}

fn protocol(number: IpNumber) -> String {
    match number {
        IpNumber::TCP => "tcp".to_owned(),
        IpNumber::UDP => "udp".to_owned(),
        IpNumber::ICMP => "icmp".to_owned(),
        IpNumber::IPV6_ICMP => "icmpv6".to_owned(),
        IpNumber::SCTP => "sctp".to_owned(),
        other => other.0.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    fn text(head: &[u8]) -> Option<String> {
        read(head).map(|refused| refused.to_string())
    }

    fn syn() -> Vec<u8> {
        let mut bytes = Vec::new();
        let packet = PacketBuilder::ipv4([10, 0, 0, 2], [192, 0, 2, 1], 64).tcp(40000, 443, 0, 1000);
        packet.write(&mut bytes, &[]).unwrap();
        bytes
    }

    #[test]
    fn a_packet_is_known_by_its_head() {
        assert_eq!(text(&syn()).unwrap(), "tcp 192.0.2.1:443");
        let mut datagram = Vec::new();
        let packet = PacketBuilder::ipv6([1; 16], [0x20; 16], 64).udp(40000, 53);
        packet.write(&mut datagram, &[0; 500]).unwrap();
        let address = "2020:2020:2020:2020:2020:2020:2020:2020";
        // As much as the kernel tells.
        assert_eq!(text(&datagram[..128]).unwrap(), format!("udp [{address}]:53"));
        let mut ping = Vec::new();
        let packet = PacketBuilder::ipv4([10, 0, 0, 2], [192, 0, 2, 1], 64).icmpv4_echo_request(1, 1);
        packet.write(&mut ping, &[]).unwrap();
        assert_eq!(text(&ping).unwrap(), "icmp 192.0.2.1");
    }

    #[test]
    fn what_has_no_ports_has_none() {
        let mut cut = syn();
        cut.truncate(22);
        assert_eq!(text(&cut).unwrap(), "tcp 192.0.2.1");
        let mut other = syn();
        other[9] = 253;
        assert_eq!(text(&other).unwrap(), "253 192.0.2.1");
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[0x45]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(version in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()], rest in proptest::collection::vec(any::<u8>(), 0..127)) {
            let mut bytes = vec![version];
            bytes.extend(rest);
            let _ = read(&bytes);
        }
    }
}
