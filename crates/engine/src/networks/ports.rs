//! Ports of containers that are published on the host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use network::Protocol;
use serde::{Deserialize, Serialize};

use crate::{ContainerCreate, EngineError, Result};

/// The most ports of a container that are published: each takes descriptors of the daemon, and images say which.
const MAX_PORTS: usize = 1024;

/// A port of a container; as text `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ContainerPort {
    /// Its number.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for ContainerPort {
    type Err = EngineError;

    /// Reads `80` (TCP), `80/tcp` or `53/udp`.
    fn from_str(text: &str) -> Result<Self> {
        let refusal = || EngineError::Invalid(format!("invalid port specification: {text:?}"));
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if protocol == "sctp" {
            return Err(EngineError::Unsupported(format!(
                "cannot publish {text}: hull forwards TCP and UDP"
            )));
        }
        Ok(Self {
            number: number
                .parse()
                .ok()
                .filter(|number| *number != 0)
                .ok_or_else(refusal)?,
            protocol: protocol.parse().map_err(|_| refusal())?,
        })
    }
}

impl From<ContainerPort> for String {
    fn from(port: ContainerPort) -> String {
        port.to_string()
    }
}

impl TryFrom<String> for ContainerPort {
    type Error = EngineError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// A port of a container that is asked to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The container's port.
    pub port: ContainerPort,
    /// The host's address; `None` is all of them.
    pub host: Option<IpAddr>,
    /// The host's ports of which the first free one is taken; `None` is any.
    pub host_ports: Option<(u16, u16)>,
}

/// A port that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's port.
    pub port: ContainerPort,
    /// The host's address; the unspecified one of its family is all of that family.
    pub host: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

impl PortBinding {
    /// The host's addresses it is published on.
    pub(super) fn addresses(&self, fallback: Option<IpAddr>) -> Vec<IpAddr> {
        match self.host.or(fallback) {
            Some(address) => vec![address],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        }
    }

    /// The host's ports it may have.
    pub(super) fn range(&self) -> Option<RangeInclusive<u16>> {
        self.host_ports.map(|(first, last)| first..=last)
    }
}

/// What a container wants to be published: what is asked for, and with `-P` all that it exposes besides.
pub(super) fn wanted(config: &ContainerCreate) -> Result<Vec<PortBinding>> {
    let mut wanted = config.ports.clone();
    if config.publish_all {
        for exposed in &config.exposed_ports {
            let port = exposed.parse()?;
            if !wanted.iter().any(|binding| binding.port == port) {
                wanted.push(PortBinding {
                    port,
                    host: None,
                    host_ports: None,
                });
            }
        }
    }
    if wanted.len() > MAX_PORTS {
        return Err(EngineError::Invalid(format!(
            "a container can have at most {MAX_PORTS} published ports, and {} are asked for",
            wanted.len()
        )));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written_as_docker_has_them() {
        let port = |text: &str| text.parse::<ContainerPort>().unwrap();
        assert_eq!(port("80").to_string(), "80/tcp");
        assert_eq!(port("53/udp").to_string(), "53/udp");
        for wrong in ["", "0", "65536", "80/icmp", "80/", "x/tcp", "80/sctp"] {
            assert!(wrong.parse::<ContainerPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_exposed_ports_are_published_once() {
        let config = ContainerCreate {
            exposed_ports: ["80/tcp", "53/udp"].map(str::to_owned).into(),
            ports: vec![PortBinding {
                port: "80".parse().unwrap(),
                host: None,
                host_ports: Some((8080, 8080)),
            }],
            publish_all: true,
            ..ContainerCreate::default()
        };
        let wanted = wanted(&config).unwrap();
        let shown: Vec<_> = wanted
            .iter()
            .map(|binding| (binding.port.to_string(), binding.range()))
            .collect();
        assert_eq!(
            shown,
            [
                ("80/tcp".to_owned(), Some(8080..=8080)),
                ("53/udp".to_owned(), None)
            ]
        );
    }
}
