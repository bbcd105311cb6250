//! The table of family bridge: what containers may send at all, and between ports of one bridge.
//!
//! A frame from a TAP device is judged before its bridge looks at it. What is not allowed here goes nowhere: not to another
//! container, and not to the host. All lookups are by interface, in sets, so that they cost the same for any number of containers.
//!
//! The device is in a bridge before it is up ([`Links::join`](crate::Links::join)); from one that is in none, nothing passes either,
//! for the other table drops what comes from such an interface itself.

use std::net::{IpAddr, Ipv6Addr};

use super::ruleset::{EndpointRules, Ruleset, TAP_PREFIX};
use super::text::{Chain, Kind, Set, mac, quoted, table};

/// The name of the table.
pub(super) const TABLE: &str = "bridge hull";

/// Where the target of a neighbour solicitation or advertisement lies (RFC 4861, sections 4.3 and 4.4).
const TARGET: &str = "iifname . @th,64,128";

/// Writes the table.
pub(super) fn write(to: &mut String, ruleset: &Ruleset) {
    table(to, TABLE, &sets(ruleset), &chains());
}

fn sets(ruleset: &Ruleset) -> Vec<Set<'static>> {
    let endpoints = || ruleset.endpoints.iter();
    let of_each =
        |elements: fn(&EndpointRules) -> Vec<String>| endpoints().flat_map(elements).collect::<Vec<_>>();
    let closed = |bridge: &str| {
        let network = ruleset.networks.iter().find(|network| network.bridge == bridge);
        network.is_none_or(|network| !network.inter_container)
    };
    let isolated = endpoints().filter(|endpoint| closed(&endpoint.bridge));
    vec![
        Set::new("macs", Kind::Keys("ifname . ether_addr"), of_each(macs)),
        Set::new("sources4", Kind::Keys("ifname . ipv4_addr"), of_each(sources4)),
        Set::new(
            "senders",
            Kind::Keys("ifname . ether_addr . ipv4_addr"),
            of_each(senders),
        ),
        Set::new("sources6", Kind::Keys("ifname . ipv6_addr"), of_each(sources6)),
        Set::new("targets6", Kind::KeysLike(TARGET), of_each(targets6)),
        Set::new(
            "isolated",
            Kind::Keys("ifname"),
            isolated.map(|endpoint| quoted(&endpoint.tap)),
        ),
    ]
}

fn macs(endpoint: &EndpointRules) -> Vec<String> {
    vec![format!("{} . {}", quoted(&endpoint.tap), mac(endpoint.mac))]
}

fn sources4(endpoint: &EndpointRules) -> Vec<String> {
    let own = endpoint.addresses.iter().filter(|address| address.is_ipv4());
    own.map(|address| format!("{} . {address}", quoted(&endpoint.tap)))
        .collect()
}

fn senders(endpoint: &EndpointRules) -> Vec<String> {
    let (tap, mac) = (quoted(&endpoint.tap), mac(endpoint.mac));
    let own = endpoint.addresses.iter().filter(|address| address.is_ipv4());
    own.map(|address| format!("{tap} . {mac} . {address}")).collect()
}

fn addresses6(endpoint: &EndpointRules) -> impl Iterator<Item = Ipv6Addr> {
    let own = endpoint.addresses.iter().copied().chain([endpoint.link_local()]);
    own.filter_map(|address| match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    })
}

fn sources6(endpoint: &EndpointRules) -> Vec<String> {
    let tap = quoted(&endpoint.tap);
    addresses6(endpoint)
        .map(|address| format!("{tap} . {address}"))
        .collect()
}

/// As [`sources6`]: in raw bytes of a packet, an address is a number.
fn targets6(endpoint: &EndpointRules) -> Vec<String> {
    let tap = quoted(&endpoint.tap);
    addresses6(endpoint)
        .map(|address| format!("{tap} . {:#034x}", address.to_bits()))
        .collect()
}

fn chains() -> [Chain; 8] {
    [
        // No container serves DHCP, and the network needs none: addresses are given out by hull. Queries make their sender the
        // router of groups in the eyes of a bridge.
        Chain::new(
            "ip4_source",
            "udp dport { 67, 68 } drop
             igmp type membership-query drop
             iifname . ip saddr @sources4 accept
             drop",
        ),
        Chain::new(
            "arp_sender",
            "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation { request, reply } iifname . arp saddr ether . arp saddr ip @senders accept
             drop",
        ),
        // Without a protocol that can be read, a packet meets the last rule. 58 is ICMPv6, whose name takes a file that not every
        // host has (/etc/protocols).
        Chain::new(
            "ip6_source",
            "meta l4proto 58 goto icmp6
             udp dport { 546, 547 } drop
             meta l4proto != 58 iifname . ip6 saddr @sources6 accept
             drop",
        ),
        // What a later fragment means, the first one has said, which has the type. Messages of neighbour discovery are never
        // fragments (RFC 6980). Those of routers (134, 137) and queries (130) are nobody's here.
        Chain::new(
            "icmp6",
            format!(
                "ip6 saddr :: goto icmp6_unspecified
                 iifname . ip6 saddr != @sources6 drop
                 frag frag-off > 0 accept
                 icmpv6 type != {{ 130, 133-137 }} accept
                 exthdr frag exists drop
                 icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit }} accept
                 icmpv6 type nd-neighbor-advert {TARGET} @targets6 accept
                 drop"
            ),
        ),
        // A host without an address yet asks whether somebody has it (RFC 4862, section 5.4.2), and says which groups it is in
        // (RFC 3590).
        Chain::new(
            "icmp6_unspecified",
            format!(
                "exthdr frag exists drop
                 icmpv6 type {{ 131, 132, 143 }} ip6 daddr ff00::/8 accept
                 icmpv6 type nd-neighbor-solicit ip6 daddr ff02::1:ff00:0/104 {TARGET} @targets6 accept
                 drop"
            ),
        ),
        // The type is read from the frame as it was sent: one with a VLAN tag has the tag's type, and is dropped as all others.
        Chain::at_hook(
            "binding",
            "filter hook prerouting priority -300",
            format!(
                "iifname != \"{TAP_PREFIX}*\" accept
                 ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop
                 iifname . ether saddr != @macs drop
                 ether type vmap {{ ip : goto ip4_source, ip6 : goto ip6_source, arp : goto arp_sender }}
                 drop"
            ),
        ),
        // Frames for the bridge itself, as STP and LLDP are, do not come by above: the bridge hands them to the host as if they
        // had come to the port, whatever they hold.
        Chain::at_hook(
            "link_local",
            "filter hook input priority -200",
            format!("iifname \"{TAP_PREFIX}*\" ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop"),
        ),
        Chain::at_hook(
            "isolation",
            "filter hook forward priority -200",
            "iifname @isolated drop
             oifname @isolated drop",
        ),
    ]
}
