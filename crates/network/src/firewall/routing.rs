//! The table of family inet: what containers send to the host and beyond, what comes to them from there, and whose address it has.
//!
//! In its eyes, what a container sends comes from the container's bridge. The address says which container it was: the other table has
//! seen to that.
//!
//! An entry of connection tracking remembers what was allowed: packets of a flow are looked at when it begins. What bounds the
//! entries of all containers together is `net.netfilter.nf_conntrack_max`; when they are used up, nothing new begins.

use std::net::IpAddr;

use ipnet::IpNet;

use super::egress;
use super::ruleset::{NetworkRules, Publication, Ruleset, TAP_PREFIX};
use super::text::{Chain, Family, Kind, Set, quoted, table};

/// The name of the table.
pub(super) const TABLE: &str = "inet hull";

/// Writes the table.
pub(super) fn write(to: &mut String, ruleset: &Ruleset) {
    let mut sets = Vec::from(network_sets(ruleset));
    for family in Family::ALL {
        sets.extend(address_sets(ruleset, family));
        sets.extend(publication_sets(ruleset, family));
        sets.push(egress::verdicts(ruleset, family));
    }
    let mut chains = vec![refuse()];
    chains.extend(egress::chains(ruleset));
    chains.extend(forwarded());
    chains.extend(to_the_host());
    chains.extend(translated());
    table(to, TABLE, &sets, &chains);
}

fn network_sets(ruleset: &Ruleset) -> [Set<'static>; 4] {
    let bridges = |wanted: fn(&&NetworkRules) -> bool| {
        let wanted = ruleset.networks.iter().filter(wanted);
        wanted.map(|network| quoted(&network.bridge)).collect::<Vec<_>>()
    };
    let same = bridges(|_| true)
        .into_iter()
        .map(|bridge| format!("{bridge} . {bridge}"));
    [
        Set::new("bridges", Kind::Keys("ifname"), bridges(|_| true)),
        Set::new(
            "internal",
            Kind::Keys("ifname"),
            bridges(|network| network.internal),
        ),
        Set::new(
            "isolated",
            Kind::Keys("ifname"),
            bridges(|network| !network.inter_container),
        ),
        Set::new("same", Kind::Keys("ifname . ifname"), same),
    ]
}

fn address_sets(ruleset: &Ruleset, family: Family) -> [Set<'static>; 5] {
    let digit = family.digit();
    let (address, on_interface) = match family {
        Family::V4 => ("ipv4_addr", "ifname . ipv4_addr"),
        Family::V6 => ("ipv6_addr", "ifname . ipv6_addr"),
    };
    let networks = || ruleset.networks.iter();
    let subnets = |network: &NetworkRules| -> Vec<IpNet> {
        let subnets = network
            .subnets
            .iter()
            .filter(|subnet| Family::of_net(subnet) == family);
        subnets.map(IpNet::trunc).collect()
    };
    let masqueraded = networks().filter(|network| network.masquerade && !network.internal);
    let masqueraded = masqueraded.flat_map(&subnets).map(|subnet| subnet.to_string());
    let on_bridges = networks().flat_map(|network| {
        let bridge = quoted(&network.bridge);
        subnets(network)
            .into_iter()
            .map(move |subnet| format!("{bridge} . {subnet}"))
    });
    let gateways = networks().flat_map(|network| {
        let gateways = network
            .gateways
            .iter()
            .filter(|gateway| Family::of(gateway) == family);
        gateways.map(|gateway| format!("{} . {gateway}", quoted(&network.bridge)))
    });
    let hosts = networks().flat_map(|network| &network.gateways);
    let hosts = hosts
        .filter(|gateway| Family::of(gateway) == family)
        .map(IpAddr::to_string);
    let forbidden = ruleset.forbidden.iter().map(IpNet::trunc);
    let forbidden: Vec<_> = forbidden.filter(|net| Family::of_net(net) == family).collect();
    // Ranges of a set must not overlap.
    let forbidden = IpNet::aggregate(&forbidden);
    [
        Set::new(format!("masqueraded{digit}"), Kind::Ranges(address), masqueraded),
        Set::new(format!("subnets{digit}"), Kind::Ranges(on_interface), on_bridges),
        Set::new(format!("gateways{digit}"), Kind::Keys(on_interface), gateways),
        Set::new(format!("hosts{digit}"), Kind::Keys(address), hosts),
        Set::new(
            format!("forbidden{digit}"),
            Kind::Ranges(address),
            forbidden.into_iter().map(|net| net.to_string()),
        ),
    ]
}

/// The published ports that the rules serve. Those of an internal network are nobody's, and those at the host's loopback are a proxy's.
fn served(ruleset: &Ruleset, family: Family) -> impl Iterator<Item = &Publication> {
    ruleset.publications.iter().filter(move |publication| {
        let network = ruleset
            .networks
            .iter()
            .find(|network| network.bridge == publication.bridge);
        Family::of(&publication.target.ip()) == family
            && network.is_some_and(|network| !network.internal)
            && !publication.address().is_some_and(|host| host.is_loopback())
    })
}

fn publication_sets(ruleset: &Ruleset, family: Family) -> [Set<'static>; 3] {
    let digit = family.digit();
    let [targets, anywhere, at_address] = match family {
        Family::V4 => [
            "ifname . inet_proto . ipv4_addr . inet_service",
            "inet_proto . inet_service : ipv4_addr . inet_service",
            "inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service",
        ],
        Family::V6 => [
            "ifname . inet_proto . ipv6_addr . inet_service",
            "inet_proto . inet_service : ipv6_addr . inet_service",
            "inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service",
        ],
    };
    let target = |publication: &Publication| {
        let (bridge, protocol) = (quoted(&publication.bridge), publication.protocol);
        let target = publication.target;
        format!("{bridge} . {protocol} . {} . {}", target.ip(), target.port())
    };
    let translation = |publication: &Publication, host: Option<IpAddr>| {
        let (protocol, port) = (publication.protocol, publication.host_port);
        let key = match host {
            Some(host) => format!("{protocol} . {host} . {port}"),
            None => format!("{protocol} . {port}"),
        };
        format!(
            "{key} : {} . {}",
            publication.target.ip(),
            publication.target.port()
        )
    };
    let everywhere = served(ruleset, family).filter(|publication| publication.address().is_none());
    let somewhere = served(ruleset, family).filter(|publication| publication.address().is_some());
    [
        Set::new(
            format!("published{digit}"),
            Kind::Keys(targets),
            served(ruleset, family).map(target),
        ),
        Set::new(
            format!("ports{digit}"),
            Kind::Map(anywhere),
            everywhere.map(|publication| translation(publication, None)),
        ),
        Set::new(
            format!("ports_at{digit}"),
            Kind::Map(at_address),
            somewhere.map(|publication| translation(publication, publication.address())),
        ),
    ]
}

/// Who is refused hears of it, and does not wait.
fn refuse() -> Chain {
    Chain::new(
        "refuse",
        "meta l4proto tcp reject with tcp reset
         reject with icmpx admin-prohibited",
    )
}

/// What goes through the host. With `br_netfilter`, also what goes through a bridge; there, the other table has judged.
fn forwarded() -> [Chain; 4] {
    [
        Chain::at_hook(
            "forward",
            "filter hook forward priority 0",
            "ct state established,related accept
             iifname @bridges goto from_container
             oifname @bridges goto to_container",
        ),
        Chain::new(
            "from_container",
            "ct state invalid drop
             ip daddr @forbidden4 goto refuse
             ip6 daddr @forbidden6 goto refuse
             iifname . oifname @same goto within_network
             iifname @internal goto refuse
             oifname @bridges goto refuse
             iifname . ip saddr vmap @egress4
             iifname . ip6 saddr vmap @egress6
             accept",
        ),
        // By way of the host: a published port, or a container that sends what is for its neighbour to the gateway.
        Chain::new(
            "within_network",
            "ct status dnat oifname . meta l4proto . ip daddr . th dport @published4 accept
             ct status dnat oifname . meta l4proto . ip6 daddr . th dport @published6 accept
             iifname @isolated goto refuse
             accept",
        ),
        // A neighbour of the host may have set a route to the containers: that opens nothing.
        Chain::new(
            "to_container",
            "ct state invalid drop
             ct status dnat oifname . meta l4proto . ip daddr . th dport @published4 accept
             ct status dnat oifname . meta l4proto . ip6 daddr . th dport @published6 accept
             drop",
        ),
    ]
}

/// What containers send to the host itself.
fn to_the_host() -> [Chain; 4] {
    [
        // Containers' interfaces are ports of bridges; only what the bridge would not have comes from one itself.
        Chain::at_hook(
            "unbridged",
            "filter hook prerouting priority -300",
            format!("iifname \"{TAP_PREFIX}*\" drop"),
        ),
        Chain::at_hook(
            "input",
            "filter hook input priority 0",
            "iifname @bridges goto to_host",
        ),
        Chain::new(
            "to_host",
            "ct state established,related accept
             ct state invalid drop
             icmpv6 type { 131, 132, 133, 135, 136, 143 } accept
             ip protocol igmp accept
             ip daddr @forbidden4 goto refuse
             ip6 daddr @forbidden6 goto refuse
             iifname . ip daddr @gateways4 jump at_gateway
             iifname . ip6 daddr @gateways6 jump at_gateway
             iifname @internal goto refuse
             ip daddr @hosts4 iifname . ip daddr != @gateways4 goto refuse
             ip6 daddr @hosts6 iifname . ip6 daddr != @gateways6 goto refuse
             iifname . ip saddr vmap @egress4
             iifname . ip6 saddr vmap @egress6
             accept",
        ),
        Chain::new(
            "at_gateway",
            "meta l4proto { tcp, udp } th dport 53 accept
             icmp type echo-request accept
             icmpv6 type echo-request accept",
        ),
    ]
}

/// Whose address packets have. Only the first packet of a flow comes by here.
fn translated() -> [Chain; 4] {
    [
        Chain::at_hook(
            "prerouting",
            "nat hook prerouting priority -100",
            "iifname @internal return
             iifname @bridges ip daddr @hosts4 iifname . ip daddr != @gateways4 return
             iifname @bridges ip6 daddr @hosts6 iifname . ip6 daddr != @gateways6 return
             meta l4proto { tcp, udp } fib daddr type local goto publish",
        ),
        Chain::at_hook(
            "output",
            "nat hook output priority -100",
            "ip daddr 127.0.0.0/8 return
             ip6 daddr ::1 return
             meta l4proto { tcp, udp } fib daddr type local goto publish",
        ),
        Chain::new(
            "publish",
            "dnat ip addr . port to meta l4proto . ip daddr . th dport map @ports_at4
             dnat ip addr . port to meta l4proto . th dport map @ports4
             dnat ip6 addr . port to meta l4proto . ip6 daddr . th dport map @ports_at6
             dnat ip6 addr . port to meta l4proto . th dport map @ports6",
        ),
        // A container that is reached from its own network by way of the host has to answer the host, not its neighbour.
        Chain::at_hook(
            "postrouting",
            "nat hook postrouting priority 100",
            "ct status dnat oifname . ip saddr @subnets4 masquerade
             ct status dnat oifname . ip6 saddr @subnets6 masquerade
             oifname != @bridges ip saddr @masqueraded4 masquerade
             oifname != @bridges ip6 saddr @masqueraded6 masquerade",
        ),
    ]
}
