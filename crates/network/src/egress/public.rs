//! Which addresses are hosts of the public Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks and the lengths of their prefixes that are private or mean something else than a host (the IANA's registry of
/// special-purpose IPv4 addresses, RFC 6890), but for those of documentation, at which nobody is.
const SPECIAL_V4: [([u8; 4], u32); 12] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Carriers' own (RFC 6598).
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Link-local, and the metadata services of clouds.
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    // Relays from IPv6, given up (RFC 7526).
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    // Groups; what is reserved, and everybody.
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// IPv4 hosts as an IPv6 host with a translator sees them (RFC 6052).
const TRANSLATED: (u128, u32) = (0x0064_ff9b << 96, 96);

/// Where addresses of hosts come from (RFC 4291, section 2.4).
const GLOBAL: (u128, u32) = (0x2000 << 112, 3);

/// Special networks there: protocols of the IETF with the tunnels of Teredo, and tunnels that have any IPv4 address in them (6to4,
/// given up).
const SPECIAL_V6: [(u128, u32); 2] = [(0x2001 << 112, 23), (0x2002 << 112, 16)];

/// Whether an address can be a host of the public Internet: it is not private, of this host, link-local, or of a group.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(net, length): ([u8; 4], u32)| {
        let differing = (address.to_bits() ^ u32::from_be_bytes(net)).leading_zeros();
        differing >= length
    };
    !SPECIAL_V4.into_iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |(net, length): (u128, u32)| (address.to_bits() ^ net).leading_zeros() >= length;
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    if within(TRANSLATED) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4([a, b, c, d].into());
    }
    within(GLOBAL) && !SPECIAL_V6.into_iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_world_are_public() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.2.1",
            "198.20.0.1",
            "223.255.255.254",
            "2606:4700::1111",
            "2a00::1",
            "2001:4860:4860::8888",
            "2001:db8::1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_is_near_or_nobodys_is_not_public() {
        for address in [
            "0.0.0.0",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.53",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.251",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1.1.1.1",
            "2001::1",
            "2001:10::1",
            "2002:0a00:0001::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
