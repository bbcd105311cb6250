//! Making and removing networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use network::{EgressPolicy, Pools};

use super::record::{NetworkRecord, complete, option};
use super::{DEFAULT_NETWORK, NO_NETWORK, NetworkCreate, Networks, SubnetConfig};
use crate::{EngineError, Result, ids};

/// The bridge of the default network.
const DEFAULT_BRIDGE: &str = "hull0";
/// What the names of the other bridges begin with; some digits of the network's id follow.
const BRIDGE_PREFIX: &str = "hullb";
/// The longest name of an interface, in bytes.
const MAX_INTERFACE: usize = 15;
/// The least MTU that IPv6 can do with (RFC 8200, section 5), and the most that a TAP device takes.
const MTUS: std::ops::RangeInclusive<u32> = 1280..=65521;
/// The most networks of an engine: each has a bridge while it is used, and a subnet of the host.
const MAX_NETWORKS: usize = 1024;

impl Networks {
    /// The network of containers whose creators name none, which is made when it is asked for first.
    pub(crate) async fn default_bridge(&self) -> Result<NetworkRecord> {
        if let Some(record) = self.find_default() {
            return Ok(record);
        }
        let _changing = self.changing.lock().await;
        if let Some(record) = self.find_default() {
            return Ok(record);
        }
        let create = NetworkCreate {
            name: DEFAULT_NETWORK.into(),
            ipv4: true,
            ..NetworkCreate::default()
        };
        self.make(create).await
    }

    /// Makes a network.
    pub(super) async fn create(&self, create: NetworkCreate) -> Result<NetworkRecord> {
        check(&create)?;
        // So that it gets the first subnet, as everywhere.
        self.default_bridge().await?;
        let _changing = self.changing.lock().await;
        let all = self.all();
        if all.iter().any(|record| record.name == create.name) {
            return Err(EngineError::Conflict(format!(
                "network with name {} already exists",
                create.name
            )));
        }
        if all.len() >= MAX_NETWORKS {
            return Err(EngineError::Forbidden(format!(
                "there are {MAX_NETWORKS} networks, which is as many as there can be: remove some of them"
            )));
        }
        if let Some(bridge) = create.options.get(option::BRIDGE_NAME)
            && all.iter().any(|record| record.bridge == *bridge)
        {
            return Err(EngineError::Conflict(format!(
                "another network has the bridge {bridge}"
            )));
        }
        self.make(create).await
    }

    async fn make(&self, create: NetworkCreate) -> Result<NetworkRecord> {
        let id = ids::new_id().map_err(EngineError::io("read", "random numbers"))?;
        let subnets = self.choose_subnets(&create).await?;
        let bridge = match create.options.get(option::BRIDGE_NAME) {
            Some(bridge) => bridge.clone(),
            None if create.name == DEFAULT_NETWORK => DEFAULT_BRIDGE.into(),
            None => format!("{BRIDGE_PREFIX}{}", &id[..8]),
        };
        let record = NetworkRecord {
            id,
            name: create.name,
            created: Timestamp::now(),
            internal: create.internal,
            ipv6: subnets
                .iter()
                .any(|subnet| subnet.gateway.is_some_and(|gateway| gateway.is_ipv6())),
            attachable: create.attachable,
            subnets,
            options: create.options,
            labels: create.labels,
            bridge,
        };
        self.insert(record.clone())?;
        Ok(record)
    }

    /// The subnets asked for, and of each family that none is asked of, a free one.
    async fn choose_subnets(&self, create: &NetworkCreate) -> Result<Vec<SubnetConfig>> {
        let mut used = self.subnets();
        let mut on_host = self
            .host()
            .await?
            .subnets()
            .await
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        // What the host knows of hull's own networks is known here better.
        on_host.retain(|subnet| !used.contains(subnet));
        used.extend(on_host);
        let mut chosen = Vec::new();
        let pools = Pools::default();
        let wanted = create
            .subnets
            .iter()
            .filter(|subnet| **subnet != SubnetConfig::default());
        for asked in wanted {
            let subnet = match asked.subnet {
                Some(subnet) => subnet.trunc(),
                None => {
                    return Err(EngineError::Invalid(
                        "invalid network config: a gateway or a range needs the subnet that it is in".into(),
                    ));
                }
            };
            Pools::check(subnet, &used).map_err(|error| EngineError::Forbidden(error.to_string()))?;
            used.push(subnet);
            chosen.push(complete(asked.clone(), subnet)?);
        }
        for (ipv4, wanted) in [(true, create.ipv4), (false, create.ipv6)] {
            if !wanted || chosen.iter().any(|subnet| is_ipv4(subnet) == ipv4) {
                continue;
            }
            let free = match ipv4 {
                true => pools.free_v4(&used),
                false => pools.free_v6(&used),
            };
            let free = free.map_err(|error| EngineError::Forbidden(error.to_string()))?;
            chosen.push(complete(SubnetConfig::default(), free)?);
        }
        for (ipv4, wanted, needs) in [
            (
                true,
                create.ipv4,
                "an IPv4 subnet needs IPv4 to be enabled (--ipv4)",
            ),
            (
                false,
                create.ipv6,
                "an IPv6 subnet needs IPv6 to be enabled (--ipv6)",
            ),
        ] {
            if !wanted && chosen.iter().any(|subnet| is_ipv4(subnet) == ipv4) {
                return Err(EngineError::Invalid(format!("invalid network config: {needs}")));
            }
        }
        chosen.sort_by_key(|subnet| !is_ipv4(subnet));
        Ok(chosen)
    }
}

fn is_ipv4(subnet: &SubnetConfig) -> bool {
    matches!(subnet.subnet, Some(IpNet::V4(_)))
}

/// Refuses what cannot be a network.
fn check(create: &NetworkCreate) -> Result<()> {
    let invalid = |text: String| Err(EngineError::Invalid(text));
    let name = create.name.as_str();
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !starts_well || !name.chars().all(is_good) || name.len() > 255 {
        return invalid(format!(
            "invalid network name {name:?}: only letters, digits, '_', '.' and '-' are allowed, the first being a letter or digit"
        ));
    }
    if [DEFAULT_NETWORK, NO_NETWORK, "host", "default", "container"].contains(&name) {
        return Err(EngineError::Forbidden(format!(
            "operation is not permitted on predefined {name} network"
        )));
    }
    if !create.ipv4 && !create.ipv6 {
        return invalid("IPv4 or IPv6 must be enabled".into());
    }
    match create.driver.as_str() {
        "" | "bridge" => {}
        "host" | "null" => {
            let driver = &create.driver;
            return Err(EngineError::Forbidden(format!(
                "only one instance of \"{driver}\" network is allowed"
            )));
        }
        driver => {
            return Err(EngineError::NotFound(format!(
                "plugin \"{driver}\" not found: hull makes networks with the bridge driver only"
            )));
        }
    }
    check_options(&create.options)
}

fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        let is_valid = match name.as_str() {
            option::MTU => value.parse().is_ok_and(|mtu| MTUS.contains(&mtu)),
            option::INTER_CONTAINER | option::MASQUERADE => matches!(value.as_str(), "true" | "false"),
            option::HOST_BINDING => value.parse::<IpAddr>().is_ok(),
            option::BRIDGE_NAME if !is_interface(value) => {
                return Err(EngineError::Invalid(format!(
                    "invalid value {value:?} of network option {name}: hull's bridges have names of {BRIDGE_PREFIX} and letters or \
                     digits, {MAX_INTERFACE} at most"
                )));
            }
            option::BRIDGE_NAME => true,
            // It says what is wrong better than the text below.
            option::EGRESS => {
                let policy = value.parse::<EgressPolicy>();
                policy.map_err(|error| EngineError::Invalid(error.to_string()))?;
                true
            }
            _ => {
                return Err(EngineError::Invalid(format!(
                    "hull does not know the network option {name}"
                )));
            }
        };
        if !is_valid {
            return Err(EngineError::Invalid(format!(
                "invalid value {value:?} of network option {name}"
            )));
        }
    }
    Ok(())
}

/// Whether a bridge may have this name: one that hull finds again as its own.
fn is_interface(name: &str) -> bool {
    name.len() <= MAX_INTERFACE
        && name.starts_with(BRIDGE_PREFIX)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use network::HostSettings;

    use super::*;

    fn asked(name: &str, ipv4: bool, ipv6: bool, subnets: &[&str]) -> NetworkCreate {
        let subnet = |text: &&str| SubnetConfig {
            subnet: text.parse().ok(),
            ..SubnetConfig::default()
        };
        NetworkCreate {
            name: name.into(),
            ipv4,
            ipv6,
            subnets: subnets.iter().map(subnet).collect(),
            ..NetworkCreate::default()
        }
    }

    #[tokio::test]
    async fn a_network_has_the_families_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let networks = Networks::open(folder.path().join("networks"), HostSettings::default()).unwrap();
        let families = async |create: NetworkCreate| {
            let record = networks.create(create).await.unwrap();
            let is_ipv4 = record.gateways().map(|gateway| gateway.is_ipv4());
            (record.has_ipv4(), record.ipv6, is_ipv4.collect::<Vec<_>>())
        };
        assert_eq!(
            families(asked("a", true, false, &[])).await,
            (true, false, vec![true])
        );
        assert_eq!(
            families(asked("b", true, true, &["fd00:b::/64"])).await,
            (true, true, vec![true, false])
        );
        for (name, subnets) in [("c", vec![]), ("d", vec!["fd00:d::/64"])] {
            let seen = families(asked(name, false, true, &subnets)).await;
            assert_eq!(seen, (false, true, vec![false]), "{name}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_network_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let networks = Networks::open(folder.path().join("networks"), HostSettings::default()).unwrap();
        networks
            .create(asked("there", true, false, &["198.51.100.0/25"]))
            .await
            .unwrap();
        let before = networks.all();
        for (create, expected) in [
            (asked("a", false, false, &[]), "IPv4 or IPv6 must be enabled"),
            (
                asked("a", false, true, &["198.51.100.128/25"]),
                "an IPv4 subnet needs IPv4",
            ),
            (
                asked("a", true, false, &["fd00:a::/64"]),
                "an IPv6 subnet needs IPv6",
            ),
            (asked("a", true, false, &["198.51.100.0/24"]), "overlaps"),
            (asked("there", true, false, &[]), "there already exists"),
        ] {
            let error = networks.create(create).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(networks.all(), before);
    }
}
