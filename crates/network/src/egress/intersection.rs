//! What two lists of rules both allow.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::{EgressRule, Protocol};

/// Rules that allow exactly what both lists allow. Networks are disjoint or one lies in the other, so that two rules have a rule
/// in common, or nothing.
pub(crate) fn intersection(one: &[EgressRule], other: &[EgressRule]) -> Vec<EgressRule> {
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for one in one {
        for rule in other.iter().filter_map(|other| common(one, other)) {
            let ports = rule.ports.as_ref().map(|ports| (*ports.start(), *ports.end()));
            if seen.insert((rule.destination, rule.protocol, ports)) {
                rules.push(rule);
            }
        }
    }
    rules
}

fn common(one: &EgressRule, other: &EgressRule) -> Option<EgressRule> {
    Some(EgressRule {
        destination: destination(one.destination, other.destination)?,
        protocol: protocol(one.protocol, other.protocol)?,
        ports: ports(one.ports.as_ref(), other.ports.as_ref())?,
    })
}

fn destination(one: IpNet, other: IpNet) -> Option<IpNet> {
    match (one.contains(&other), other.contains(&one)) {
        (true, _) => Some(other),
        (_, true) => Some(one),
        _ => None,
    }
}

fn protocol(one: Option<Protocol>, other: Option<Protocol>) -> Option<Option<Protocol>> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => Some(one.or(other)),
    }
}

type Ports = RangeInclusive<u16>;

fn ports(one: Option<&Ports>, other: Option<&Ports>) -> Option<Option<Ports>> {
    match (one, other) {
        (Some(one), Some(other)) => {
            let common = *one.start().max(other.start())..=*one.end().min(other.end());
            (!common.is_empty()).then_some(Some(common))
        }
        (one, other) => Some(one.or(other).cloned()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::EgressPolicy;
    use super::*;

    fn rules(policy: &str) -> Vec<EgressRule> {
        policy.parse::<EgressPolicy>().unwrap().rules()
    }

    #[test]
    fn both_sides_have_to_allow() {
        let both = |one, other| intersection(&rules(one), &rules(other));
        assert_eq!(
            both("10.0.0.0/8:80-90", "10.1.0.0/16:85-99/tcp"),
            rules("10.1.0.0/16:85-90/tcp")
        );
        assert_eq!(
            both("all", "192.0.2.1:443,fd00::1"),
            rules("192.0.2.1:443,fd00::1")
        );
        assert_eq!(both("192.0.2.1,192.0.2.1", "all"), rules("192.0.2.1"));
        for (one, other) in [
            ("none", "all"),
            ("10.0.0.0/8", "11.0.0.0/8"),
            ("10.0.0.1:80", "10.0.0.1:81"),
            ("10.0.0.1/tcp", "10.0.0.1/udp"),
            ("0.0.0.0/0", "::/0"),
        ] {
            assert!(both(one, other).is_empty(), "{one} and {other}");
        }
    }

    fn rule() -> impl Strategy<Value = EgressRule> {
        let protocol = proptest::option::of(prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]);
        let ports = proptest::option::of((0..4_u16, 0..4_u16));
        (0..4_u8, 29..=32_u8, protocol, ports).prop_map(|(last, length, protocol, ports)| EgressRule {
            destination: IpNet::new([10, 0, 0, last].into(), length).unwrap().trunc(),
            protocol,
            ports: ports.map(|(a, b)| a.min(b)..=a.max(b)),
        })
    }

    fn allow(rules: &[EgressRule], address: IpAddr, protocol: Protocol, port: u16) -> bool {
        rules.iter().any(|rule| {
            rule.destination.contains(&address)
                && rule.protocol.is_none_or(|other| other == protocol)
                && rule.ports.as_ref().is_none_or(|ports| ports.contains(&port))
        })
    }

    proptest! {
        #[test]
        fn a_packet_passes_if_it_passes_both(
            one in proptest::collection::vec(rule(), 0..5),
            other in proptest::collection::vec(rule(), 0..5),
        ) {
            let both = intersection(&one, &other);
            for (last, port) in (0..8_u8).flat_map(|last| (0..4).map(move |port| (last, port))) {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let address = IpAddr::from([10, 0, 0, last]);
                    let passes = allow(&one, address, protocol, port) && allow(&other, address, protocol, port);
                    prop_assert_eq!(allow(&both, address, protocol, port), passes);
                }
            }
        }
    }
}
