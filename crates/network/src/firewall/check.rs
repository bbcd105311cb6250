//! Whether a ruleset makes sense: what nft would refuse without saying whose fault it is, and what would let a container be another.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::ruleset::{Egress, EndpointRules, NetworkRules, Publication, Ruleset, TAP_PREFIX};
use crate::names::is_plain;

/// A ruleset contradicts itself; nothing of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RulesetError {
    /// An interface has a name that no rule can hold.
    #[error(
        "'{name}' cannot be the name of a {what}: it has to have 1 to 15 letters, digits, '-', '_' or '.', and begin with '{TAP_PREFIX}' if and only if it is a TAP device's"
    )]
    Name {
        /// What the interface is.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two of something have what only one can have.
    #[error("{what} {value} is there twice, the second time for {whom}")]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: String,
        /// Who is the second one.
        whom: String,
    },
    /// An address that the one who has it cannot have.
    #[error("{whom} cannot have {what} {value}: {reason}")]
    Impossible {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: String,
        /// Who has it.
        whom: String,
        /// Why not.
        reason: &'static str,
    },
    /// A network is named that is not among the networks.
    #[error("{whom} is on bridge {bridge}, which is none of the networks'")]
    Stray {
        /// The bridge.
        bridge: String,
        /// Who is on it.
        whom: String,
    },
}

fn impossible<T>(
    whom: &str,
    what: &'static str,
    value: impl ToString,
    reason: &'static str,
) -> Result<T, RulesetError> {
    Err(RulesetError::Impossible {
        what,
        value: value.to_string(),
        whom: whom.to_owned(),
        reason,
    })
}

/// What has been seen, of which there can be one.
#[derive(Default)]
struct Seen(HashSet<(&'static str, String)>);

impl Seen {
    fn once(&mut self, what: &'static str, value: impl ToString, whom: &str) -> Result<(), RulesetError> {
        let value = value.to_string();
        match self.0.insert((what, value.clone())) {
            true => Ok(()),
            false => Err(RulesetError::Twice {
                what,
                value,
                whom: whom.to_owned(),
            }),
        }
    }
}

impl Ruleset {
    /// Says what is wrong, if anything is.
    pub(super) fn check(&self) -> Result<(), RulesetError> {
        let mut seen = Seen::default();
        for network in &self.networks {
            check_network(network, &mut seen)?;
        }
        self.check_subnets()?;
        let networks: HashMap<_, _> = self
            .networks
            .iter()
            .map(|network| (network.bridge.as_str(), network))
            .collect();
        let find = |bridge: &str, whom: &str| {
            networks.get(bridge).copied().ok_or_else(|| RulesetError::Stray {
                bridge: bridge.to_owned(),
                whom: whom.to_owned(),
            })
        };
        for endpoint in &self.endpoints {
            check_name("TAP device", &endpoint.tap)?;
            check_endpoint(endpoint, find(&endpoint.bridge, &endpoint.tap)?, &mut seen)?;
        }
        for publication in &self.publications {
            let whom = format!("the published port of {}", publication.target);
            check_publication(publication, find(&publication.bridge, &whom)?, &whom, &mut seen)?;
        }
        Ok(())
    }

    /// No two networks have an address in common, so that an address tells whose it is.
    fn check_subnets(&self) -> Result<(), RulesetError> {
        let of = |network: &'_ NetworkRules| {
            let bridge = network.bridge.clone();
            network
                .subnets
                .clone()
                .into_iter()
                .map(move |subnet| (subnet.trunc(), bridge.clone()))
        };
        let mut subnets: Vec<_> = self.networks.iter().flat_map(of).collect();
        subnets.sort();
        for pair in subnets.windows(2) {
            // In this order, a subnet that lies in another one comes after it.
            if let [(outer, _), (inner, bridge)] = pair
                && outer.contains(inner)
            {
                return impossible(bridge, "subnet", inner, "it overlaps another one");
            }
        }
        Ok(())
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), RulesetError> {
    let is_tap = what == "TAP device";
    match is_plain(name) && name.starts_with(TAP_PREFIX) == is_tap {
        true => Ok(()),
        false => Err(RulesetError::Name {
            what,
            name: name.to_owned(),
        }),
    }
}

fn check_network(network: &NetworkRules, seen: &mut Seen) -> Result<(), RulesetError> {
    let bridge = &network.bridge;
    check_name("bridge", bridge)?;
    seen.once("bridge", bridge, bridge)?;
    for gateway in &network.gateways {
        if !network.holds(*gateway) {
            return impossible(bridge, "gateway", gateway, "it is in none of its subnets");
        }
        seen.once("address", gateway, bridge)?;
    }
    Ok(())
}

fn check_endpoint(
    endpoint: &EndpointRules,
    network: &NetworkRules,
    seen: &mut Seen,
) -> Result<(), RulesetError> {
    let tap = &endpoint.tap;
    seen.once("TAP device", tap, tap)?;
    let [first, ..] = endpoint.mac;
    if first & 1 != 0 || endpoint.mac == [0; 6] {
        return impossible(
            tap,
            "hardware address",
            format!("{:02x?}", endpoint.mac),
            "it is no single station's",
        );
    }
    seen.once(
        "hardware address",
        format!("{:02x?} on {}", endpoint.mac, network.bridge),
        tap,
    )?;
    for address in &endpoint.addresses {
        if !network.holds(*address) {
            return impossible(tap, "address", address, "it is not in its network's subnets");
        }
        seen.once("address", address, tap)?;
    }
    let Egress::Only(rules) = &endpoint.egress else {
        return Ok(());
    };
    for ports in rules.iter().filter_map(|rule| rule.ports.as_ref()) {
        if ports.is_empty() {
            return impossible(
                tap,
                "range of ports",
                format!("{ports:?}"),
                "there is no port in it",
            );
        }
    }
    Ok(())
}

fn check_publication(
    publication: &Publication,
    network: &NetworkRules,
    whom: &str,
    seen: &mut Seen,
) -> Result<(), RulesetError> {
    let Publication {
        protocol,
        host_port,
        target,
        ..
    } = publication;
    if !network.holds(target.ip()) {
        return impossible(whom, "target", target, "it is not in its network's subnets");
    }
    if *host_port == 0 || target.port() == 0 {
        return impossible(whom, "port", 0, "that is no port");
    }
    let family = |address: IpAddr| if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
    let host = match publication.address() {
        Some(host) if host.is_ipv4() != target.is_ipv4() => {
            return impossible(
                whom,
                "host address",
                host,
                "it is of another family, which takes a proxy",
            );
        }
        Some(host) => host.to_string(),
        None => family(target.ip()).to_owned(),
    };
    seen.once("published port", format!("{host}:{host_port}/{}", protocol), whom)
}

impl NetworkRules {
    fn holds(&self, address: IpAddr) -> bool {
        self.subnets
            .iter()
            .any(|subnet: &IpNet| subnet.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::tests::example;
    use super::*;

    fn refusal(change: impl FnOnce(&mut Ruleset)) -> String {
        let mut ruleset = example();
        assert_eq!(ruleset.check(), Ok(()));
        change(&mut ruleset);
        ruleset.check().unwrap_err().to_string()
    }

    fn cannot(refusal: &str, what: &str) {
        assert!(
            refusal.contains("cannot have") && refusal.contains(what),
            "{refusal}"
        );
    }

    #[test]
    fn names_hold_no_rules() {
        for name in ["hullt*", "hullt\"; flush ruleset", "tap0", ""] {
            let refusal = refusal(|rules| rules.endpoints[0].tap = name.into());
            assert!(
                refusal.contains("cannot be the name of a TAP device"),
                "{refusal}"
            );
        }
        for name in ["hullt9", "a b"] {
            let refusal = refusal(|rules| rules.networks[0].bridge = name.into());
            assert!(refusal.contains("cannot be the name of a bridge"), "{refusal}");
        }
    }

    #[test]
    fn nobody_has_what_is_anothers() {
        let twice = |refusal: String| assert!(refusal.contains("is there twice"), "{refusal}");
        twice(refusal(|rules| rules.networks[1].bridge = "hull0".into()));
        twice(refusal(|rules| {
            rules.endpoints[1].tap = rules.endpoints[0].tap.clone()
        }));
        twice(refusal(|rules| rules.endpoints[1].mac = rules.endpoints[0].mac));
        twice(refusal(|rules| {
            rules.endpoints[1].addresses = rules.endpoints[0].addresses.clone()
        }));
        twice(refusal(|rules| {
            rules.endpoints[1].addresses = rules.networks[0].gateways.clone()
        }));
        twice(refusal(|rules| {
            let again = Publication {
                host: Some("0.0.0.0".parse().unwrap()),
                ..rules.publications[0].clone()
            };
            rules.publications.push(again);
        }));
        cannot(
            &refusal(|rules| rules.networks[1].subnets = vec!["172.17.8.0/24".parse().unwrap()]),
            "subnet",
        );
    }

    #[test]
    fn addresses_lie_in_the_subnets_of_their_network() {
        let stray: IpAddr = "192.0.2.1".parse().unwrap();
        cannot(
            &refusal(|rules| rules.networks[0].gateways.push(stray)),
            "gateway 192.0.2.1",
        );
        cannot(
            &refusal(|rules| rules.endpoints[0].addresses.push(stray)),
            "address 192.0.2.1",
        );
        cannot(
            &refusal(|rules| rules.publications[0].target.set_ip(stray)),
            "target 192.0.2.1",
        );
        let lost = refusal(|rules| rules.endpoints[0].bridge = "hullb9".into());
        assert!(
            lost.contains("is on bridge hullb9, which is none of the networks'"),
            "{lost}"
        );
    }

    #[test]
    fn what_no_packet_can_have_is_refused() {
        cannot(
            &refusal(|rules| rules.endpoints[0].mac = [1, 0, 0, 0, 0, 1]),
            "hardware address",
        );
        cannot(&refusal(|rules| rules.publications[0].host_port = 0), "port 0");
        cannot(
            &refusal(|rules| rules.publications[0].host = Some("fd00::7".parse().unwrap())),
            "host address",
        );
        cannot(
            &refusal(|rules| {
                let Egress::Only(allowed) = &mut rules.endpoints[1].egress else {
                    unreachable!()
                };
                #[allow(clippy::reversed_empty_ranges)]
                allowed.iter_mut().for_each(|rule| rule.ports = Some(9..=8));
            }),
            "range of ports",
        );
    }
}
