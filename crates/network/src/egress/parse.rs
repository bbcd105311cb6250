//! Reading policies, so that what is wrong is said of the part that is.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use super::pattern::NamePatternError;
use super::{Destination, DestinationHost, EgressPolicy, MAX_DESTINATIONS, Service};
use crate::Protocol;

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EgressError {
    /// A word that means everything stands beside others.
    #[error("invalid egress policy: '{word}' stands alone, without other destinations")]
    NotAlone {
        /// `all` or `none`.
        word: String,
    },
    /// There is nothing where a destination should be.
    #[error(
        "invalid egress policy: a destination is empty; write 'none' for a container that may go nowhere"
    )]
    Empty,
    /// There are more than can be.
    #[error("invalid egress policy: it has {count} destinations, the most are {MAX_DESTINATIONS}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A part of a destination makes no sense.
    #[error("invalid egress policy: '{part}' in '{destination}': {reason}")]
    Destination {
        /// The destination.
        destination: String,
        /// The part of it.
        part: String,
        /// What is wrong with it.
        reason: PartError,
    },
}

/// What is wrong with a part of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartError {
    /// The host.
    #[error(transparent)]
    Name(#[from] NamePatternError),
    /// The host in brackets.
    #[error("in brackets stands an IPv6 address or network, as in '[2001:db8::1]:443' or '[fd00::/8]:443'")]
    Brackets,
    /// An IPv6 address that goes on in some way.
    #[error("that is no IPv6 address; one that a port follows stands in brackets, as in '[2001:db8::1]:443'")]
    Colons,
    /// The length of a prefix.
    #[error("that is no network; write an address and the length of its prefix, as in '10.0.0.0/8'")]
    Net,
    /// A network with an address that is not its first one.
    #[error("the address has bits beyond the prefix; the network is {net}")]
    Bits {
        /// The network.
        net: IpNet,
    },
    /// An IPv4 address in the clothes of IPv6.
    #[error("no packet has that address; write the IPv4 address")]
    Mapped,
    /// The ports.
    #[error("a port is a number from 1 to 65535, or two of them as in '8000-8010'")]
    Ports,
    /// The protocol.
    #[error("the protocol is tcp or udp")]
    Protocol,
}

impl FromStr for EgressPolicy {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        match parts.as_slice() {
            ["all"] => return Ok(Self::All),
            ["none"] => return Ok(Self::Only(Vec::new())),
            _ => {}
        }
        if parts.len() > MAX_DESTINATIONS {
            return Err(EgressError::TooMany { count: parts.len() });
        }
        let destinations = parts.into_iter().map(destination);
        destinations.collect::<Result<_, _>>().map(Self::Only)
    }
}

fn destination(text: &str) -> Result<Destination, EgressError> {
    if text.is_empty() {
        return Err(EgressError::Empty);
    }
    if matches!(text, "all" | "none") {
        return Err(EgressError::NotAlone {
            word: text.to_owned(),
        });
    }
    read(text).map_err(|(part, reason)| EgressError::Destination {
        destination: text.to_owned(),
        part: part.to_owned(),
        reason,
    })
}

/// What is wrong, with the part that is.
type Wrong<'a> = (&'a str, PartError);

fn read(text: &str) -> Result<Destination, Wrong<'_>> {
    let (rest, protocol) = split_protocol(text)?;
    let (host, ports) = split_ports(rest)?;
    let is_in_brackets = host.starts_with('[');
    let host = match is_in_brackets {
        true => host.trim_start_matches('[').trim_end_matches(']'),
        false => host,
    };
    let ports = ports.map(|ports| read_ports(ports).ok_or((ports, PartError::Ports)));
    let found = read_host(host).map_err(|reason| (host, reason))?;
    let is_v6 = matches!(found, DestinationHost::Net(IpNet::V6(_)));
    if is_in_brackets && !is_v6 {
        return Err((host, PartError::Brackets));
    }
    Ok(Destination {
        host: found,
        service: Service {
            protocol,
            ports: ports.transpose()?,
        },
    })
}

/// The protocol is what follows the last `/`, unless that is the length of a prefix.
fn split_protocol(text: &str) -> Result<(&str, Option<Protocol>), Wrong<'_>> {
    let Some((rest, last)) = text.rsplit_once('/') else {
        return Ok((text, None));
    };
    let is_length = last.starts_with(|first: char| first.is_ascii_digit());
    match last.parse() {
        Ok(protocol) => Ok((rest, Some(protocol))),
        Err(_) if is_length => Ok((text, None)),
        Err(_) => Err((last, PartError::Protocol)),
    }
}

/// The ports are what follows the colon behind the host.
fn split_ports(text: &str) -> Result<(&str, Option<&str>), Wrong<'_>> {
    if text.starts_with('[') {
        return match text.split_once(']') {
            Some((_, "")) => Ok((text, None)),
            Some((_, ports)) => match (ports.strip_prefix(':'), text.strip_suffix(ports)) {
                (Some(ports), Some(host)) => Ok((host, Some(ports))),
                _ => Err((ports, PartError::Ports)),
            },
            None => Err((text, PartError::Brackets)),
        };
    }
    match text.matches(':').count() {
        0 => Ok((text, None)),
        1 => Ok(text
            .split_once(':')
            .map_or((text, None), |(host, ports)| (host, Some(ports)))),
        _ => Ok((text, None)),
    }
}

fn read_ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| is_plain && *port > 0)
    };
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

fn read_host(text: &str) -> Result<DestinationHost, PartError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return net(address.into());
    }
    if text.contains('/') {
        return net(text.parse().map_err(|_| PartError::Net)?);
    }
    if text.contains(':') {
        return Err(PartError::Colons);
    }
    Ok(DestinationHost::Names(text.parse()?))
}

fn net(net: IpNet) -> Result<DestinationHost, PartError> {
    /// How long the prefix of IPv4 addresses in IPv6 is (RFC 4291, section 2.5.5.2).
    const MAPPED: u8 = 96;
    let is_mapped = |address: Ipv6Addr| address.to_ipv4_mapped().is_some();
    match net {
        net if net.trunc() != net => Err(PartError::Bits { net: net.trunc() }),
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED && is_mapped(v6.addr()) => Err(PartError::Mapped),
        net => Ok(DestinationHost::Net(net)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<EgressPolicy>().unwrap_err().to_string()
    }

    #[test]
    fn a_policy_is_written_as_it_is_read() {
        for text in [
            "all",
            "none",
            "deb.debian.org",
            "*.crates.io:443/tcp",
            "*:443",
            "10.0.0.0/8",
            "10.0.0.0/8/udp",
            "10.0.0.0/8:53/udp",
            "0.0.0.0/0:1-65535,::/0",
            "192.0.2.1:80-90",
            "2001:db8::1",
            "fd00::/8/tcp",
            "[2001:db8::1]:443",
            "[fd00::/8]:443/tcp",
            "a.example:80,b.example:80/tcp,192.0.2.1",
        ] {
            let policy: EgressPolicy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
        }
    }

    #[test]
    fn one_thing_may_be_written_in_more_than_one_way() {
        for (text, same) in [
            ("Deb.Debian.Org. ,  A.B", "deb.debian.org,a.b"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("a.b:80-80/TCP", "a.b:80/tcp"),
            ("[::1]", "::1"),
            ("[fd00::/8]", "fd00::/8"),
            ("2001:0DB8::0001", "2001:db8::1"),
        ] {
            let policy: EgressPolicy = text.parse().unwrap();
            assert_eq!(policy.to_string(), same, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_the_part_that_is() {
        for (text, said) in [
            ("", "a destination is empty"),
            ("a.b,,c.d", "a destination is empty"),
            ("a.b,", "a destination is empty"),
            ("a.b,none", "'none' stands alone"),
            ("all,a.b", "'all' stands alone"),
            ("x.y,a.b:0", "'0' in 'a.b:0': a port"),
            ("a.b:", "'' in 'a.b:': a port"),
            ("a.b:90-80", "'90-80' in"),
            ("a.b:70000", "'70000' in"),
            ("a.b:+80", "'+80' in"),
            ("a.b:80/icmp", "'icmp' in 'a.b:80/icmp': the protocol is"),
            ("a.b/", "'' in 'a.b/': the protocol is"),
            ("10.0.0.1/8", "the network is 10.0.0.0/8"),
            (
                "10.0.0.0/33",
                "'10.0.0.0/33' in '10.0.0.0/33': that is no network",
            ),
            (
                "10.0.0.300:80",
                "'10.0.0.300' in '10.0.0.300:80': that is neither",
            ),
            ("a.b/8", "that is no network"),
            ("2001:db8::1:443:x", "stands in brackets"),
            ("[10.0.0.1]:80", "in brackets stands"),
            ("[a.b]:80", "in brackets stands"),
            ("[::1", "in brackets stands"),
            ("[::1]443", "'443' in '[::1]443': a port"),
            ("::ffff:10.0.0.1", "write the IPv4 address"),
            ("::ffff:10.0.0.0/104", "write the IPv4 address"),
            ("https://a.b", "the protocol is"),
            ("a.*.b", "'*' stands only"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.starts_with("invalid egress policy: "), "{refusal}");
            assert!(refusal.contains(said), "{text}: {refusal}");
        }
        let many = vec!["a.b"; MAX_DESTINATIONS + 1].join(",");
        assert!(refusal(&many).contains("the most are 256"));
        let most = vec!["a.b"; MAX_DESTINATIONS].join(",");
        assert!(most.parse::<EgressPolicy>().is_ok());
    }

    fn host() -> impl Strategy<Value = DestinationHost> {
        let net = (any::<IpAddr>(), 0..=128_u8).prop_filter_map("a network", |(address, length)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let net = IpNet::new(address, length.min(longest)).ok()?.trunc();
            super::net(net).ok()
        });
        let name = "(\\*\\.)?[a-z0-9_-]{1,20}(\\.[a-z0-9_-]{1,20}){0,3}\\.[a-z]{2,5}"
            .prop_map(|name| DestinationHost::Names(name.parse().unwrap()));
        prop_oneof![net, name]
    }

    fn service() -> impl Strategy<Value = Service> {
        let protocol = proptest::option::of(prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]);
        let ports = proptest::option::of((1..=u16::MAX, 1..=u16::MAX));
        let ports = ports.prop_map(|ports| ports.map(|(a, b)| (a.min(b), a.max(b))));
        (protocol, ports).prop_map(|(protocol, ports)| Service { protocol, ports })
    }

    proptest! {
        #[test]
        fn every_policy_is_read_as_it_is_written(
            parts in proptest::collection::vec((host(), service()), 0..6),
        ) {
            let destinations = parts.into_iter().map(|(host, service)| Destination { host, service });
            let policy = EgressPolicy::Only(destinations.collect());
            let text = policy.to_string();
            prop_assert_eq!(text.parse::<EgressPolicy>(), Ok(policy), "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9.:/,\\[\\]*-]{0,40}|\\PC{0,20}") {
            if let Ok(policy) = text.parse::<EgressPolicy>() {
                prop_assert_eq!(policy.to_string().parse(), Ok(policy));
            }
        }
    }
}
