//! What single containers may reach: a chain for each that does not reach everything.

use std::collections::BTreeSet;

use super::ruleset::{Egress, EgressRule, EndpointRules, Ruleset};
use super::text::{Chain, Family, Kind, Set, quoted};

/// Who listens to what is refused: a group of nfnetlink_log.
pub(crate) const LOG_GROUP: u16 = 100;

/// How much of a refused packet is told, in bytes: the headers.
pub(crate) const LOG_LENGTH: u32 = 128;

/// How many refused packets of a container are told in a second: more than are of use, so that those that are left out are counted.
const LOG_RATE: u32 = 100;

fn restricted(ruleset: &Ruleset) -> impl Iterator<Item = (&EndpointRules, &[EgressRule])> {
    let endpoints = ruleset.endpoints.iter();
    endpoints.filter_map(|endpoint| match &endpoint.egress {
        Egress::All => None,
        Egress::Only(rules) => Some((endpoint, rules.as_slice())),
    })
}

fn chain_name(endpoint: &EndpointRules) -> String {
    format!("egress_{}", endpoint.tap)
}

/// The chain of whom an address on a bridge is.
pub(super) fn verdicts(ruleset: &Ruleset, family: Family) -> Set<'static> {
    let (name, kind) = match family {
        Family::V4 => ("egress4", "ifname . ipv4_addr : verdict"),
        Family::V6 => ("egress6", "ifname . ipv6_addr : verdict"),
    };
    let of_each = restricted(ruleset).flat_map(|(endpoint, _)| {
        let (bridge, chain) = (quoted(&endpoint.bridge), chain_name(endpoint));
        let addresses = endpoint.addresses.iter().copied().chain([endpoint.link_local()]);
        let addresses = addresses.filter(move |address| Family::of(address) == family);
        addresses.map(move |address| format!("{bridge} . {address} : goto {chain}"))
    });
    Set::new(name, Kind::Map(kind), of_each)
}

/// A chain for each container that does not reach everything, sorted by name.
pub(super) fn chains(ruleset: &Ruleset) -> Vec<Chain> {
    let mut restricted: Vec<_> = restricted(ruleset).collect();
    restricted.sort_by_key(|(endpoint, _)| &endpoint.tap);
    restricted
        .into_iter()
        .map(|(endpoint, rules)| chain(endpoint, rules, ruleset.silent))
        .collect()
}

fn chain(endpoint: &EndpointRules, rules: &[EgressRule], silent: bool) -> Chain {
    let allowed: BTreeSet<_> = rules.iter().map(allowed).collect();
    let allowed: Vec<_> = allowed.into_iter().collect();
    let log = match silent {
        true => String::new(),
        // A container that is refused many times must not fill the log.
        false => format!(
            "limit rate {LOG_RATE}/second burst {LOG_RATE} packets log prefix \"{} \" group {LOG_GROUP} snaplen {LOG_LENGTH}",
            endpoint.tap,
        ),
    };
    Chain::new(
        &chain_name(endpoint),
        format!("{}\n{log}\ngoto refuse", allowed.join("\n")),
    )
}

fn allowed(rule: &EgressRule) -> String {
    let family = Family::of_net(&rule.destination);
    let destination = match rule.destination.prefix_len() {
        0 => format!("meta nfproto ipv{}", family.digit()),
        _ => format!("{} daddr {}", family.header(), rule.destination.trunc()),
    };
    let protocol = match (rule.protocol, &rule.ports) {
        (Some(protocol), _) => format!(" meta l4proto {}", protocol),
        (None, Some(_)) => " meta l4proto { tcp, udp }".to_owned(),
        (None, None) => String::new(),
    };
    let ports = match &rule.ports {
        Some(ports) if ports.start() == ports.end() => format!(" th dport {}", ports.start()),
        Some(ports) => format!(" th dport {}-{}", ports.start(), ports.end()),
        None => String::new(),
    };
    format!("{destination}{protocol}{ports} accept")
}
