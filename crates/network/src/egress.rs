//! Egress policies: where a container may go, in the words of who runs it.
//!
//! A policy is `all`, `none`, or destinations separated by commas, each `HOST[:PORT[-PORT]][/tcp|/udp]`. HOST is a DNS name, a
//! pattern of names (`*.example.org`, and `*` for any), an IP address or a network; an IPv6 one that a port follows stands in
//! brackets.

mod intersection;
mod parse;
mod pattern;
mod public;

use std::fmt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{EgressRule, Protocol};

pub(crate) use intersection::intersection;
pub use parse::{EgressError, PartError};
pub use pattern::{NamePattern, NamePatternError};
pub(crate) use public::is_public;

/// The most destinations of a policy.
pub const MAX_DESTINATIONS: usize = 256;

/// Where a container may go beyond its networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressPolicy {
    /// Everywhere.
    All,
    /// To these destinations; nowhere, if there are none.
    Only(Vec<Destination>),
}

/// Something that a container may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Where.
    pub host: DestinationHost,
    /// What is reached there.
    pub service: Service,
}

/// Where a destination is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationHost {
    /// At these addresses.
    Net(IpNet),
    /// At the addresses that these names stand for.
    Names(NamePattern),
}

/// What is reached of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// By which protocol; by any, unless it is said: with `ports`, by any that has ports.
    pub protocol: Option<Protocol>,
    /// The first and the last of its ports; any, unless they are said.
    pub ports: Option<(u16, u16)>,
}

impl Service {
    /// The rule that lets somebody reach this at addresses.
    pub(crate) fn at(&self, destination: IpNet) -> EgressRule {
        EgressRule {
            destination,
            protocol: self.protocol,
            ports: self.ports.map(|(first, last)| first..=last),
        }
    }
}

impl EgressPolicy {
    /// What it allows whatever names stand for.
    pub(crate) fn rules(&self) -> Vec<EgressRule> {
        match self {
            Self::All => {
                let everywhere = [IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()];
                everywhere.map(|net| Service::default().at(net)).into()
            }
            Self::Only(destinations) => {
                let rule = |destination: &Destination| match &destination.host {
                    DestinationHost::Net(net) => Some(destination.service.at(*net)),
                    DestinationHost::Names(_) => None,
                };
                destinations.iter().filter_map(rule).collect()
            }
        }
    }

    /// What may be reached at the addresses that a name stands for, sorted; nothing if it is none of the policy's names. The name
    /// is written as by [`Names`](crate::dns::Names).
    pub(crate) fn services(&self, name: &str) -> Vec<Service> {
        let Self::Only(destinations) = self else {
            return vec![Service::default()];
        };
        let service = |destination: &Destination| match &destination.host {
            DestinationHost::Names(pattern) => pattern.matches(name).then_some(destination.service),
            DestinationHost::Net(_) => None,
        };
        let mut services: Vec<_> = destinations.iter().filter_map(service).collect();
        services.sort();
        services.dedup();
        services
    }
}

impl fmt::Display for EgressPolicy {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => to.write_str("all"),
            Self::Only(destinations) if destinations.is_empty() => to.write_str("none"),
            Self::Only(destinations) => {
                for (index, destination) in destinations.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(to, "{comma}{destination}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_ports = self.service.ports.is_some();
        match &self.host {
            DestinationHost::Names(pattern) => write!(to, "{pattern}")?,
            DestinationHost::Net(net) => {
                let net = match net.prefix_len() == net.max_prefix_len() {
                    true => net.addr().to_string(),
                    false => net.to_string(),
                };
                match has_ports && net.contains(':') {
                    true => write!(to, "[{net}]")?,
                    false => to.write_str(&net)?,
                }
            }
        }
        match self.service.ports {
            Some((first, last)) if first == last => write!(to, ":{first}")?,
            Some((first, last)) => write!(to, ":{first}-{last}")?,
            None => {}
        }
        match self.service.protocol {
            Some(protocol) => write!(to, "/{protocol}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> EgressPolicy {
        text.parse().unwrap()
    }

    fn service(protocol: Option<Protocol>, ports: Option<(u16, u16)>) -> Service {
        Service { protocol, ports }
    }

    #[test]
    fn addresses_have_rules_and_names_have_services() {
        let policy =
            policy("10.0.0.0/8,[fd00::1]:443/tcp,*.example.org:80,a.example.org/udp,a.example.org:80");
        let rules = policy.rules();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0], Service::default().at("10.0.0.0/8".parse().unwrap()));
        let https = service(Some(Protocol::Tcp), Some((443, 443)));
        assert_eq!(rules[1], https.at("fd00::1/128".parse().unwrap()));
        assert_eq!(
            policy.services("a.example.org"),
            [service(None, Some((80, 80))), service(Some(Protocol::Udp), None)]
        );
        assert_eq!(
            policy.services("b.c.example.org"),
            [service(None, Some((80, 80)))]
        );
        assert!(policy.services("example.org").is_empty());
    }

    #[test]
    fn all_is_everywhere_and_none_is_nowhere() {
        assert_eq!(policy("all").rules().len(), 2);
        assert_eq!(policy("all").services("any.name"), [Service::default()]);
        assert!(policy("none").rules().is_empty());
        assert!(policy("none").services("any.name").is_empty());
    }
}
