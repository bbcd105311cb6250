//! What is kept of a network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use network::{Bridge, HostNetwork, Subnet, SubnetError, SubnetSpec};
use serde::{Deserialize, Serialize};

use crate::{EngineError, Result};

/// The MTU of a network that says nothing of it, in bytes.
const DEFAULT_MTU: u32 = 1500;

/// What makes networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkDriver {
    /// A bridge on the host.
    #[default]
    Bridge,
    /// Nothing.
    Null,
}

impl NetworkDriver {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Null => "null",
        }
    }
}

/// A subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetConfig {
    /// All its addresses; `None` has one chosen.
    pub subnet: Option<IpNet>,
    /// The host's address.
    pub gateway: Option<IpAddr>,
    /// Where addresses are taken from that nobody asks for.
    pub range: Option<IpNet>,
    /// Addresses that are somebody else's, by what they are called.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl SubnetConfig {
    /// Its addresses, once a subnet was chosen.
    pub(super) fn addresses(&self) -> Result<Subnet> {
        let subnet = self
            .subnet
            .ok_or_else(|| EngineError::Internal("a network has no subnet".into()))?;
        let spec = SubnetSpec {
            subnet,
            gateway: self.gateway,
            range: self.range,
            reserved: self.auxiliary.values().copied().collect(),
        };
        Subnet::new(&spec).map_err(|error| EngineError::Invalid(error.to_string()))
    }
}

/// A network on disk: `<id>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) internal: bool,
    pub(crate) ipv6: bool,
    pub(crate) attachable: bool,
    /// Each with a subnet and a gateway.
    pub(crate) subnets: Vec<SubnetConfig>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// The name of its bridge on the host.
    pub(crate) bridge: String,
}

/// Options of the bridge driver that are carried out.
pub(super) mod option {
    pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
    pub(crate) const INTER_CONTAINER: &str = "com.docker.network.bridge.enable_icc";
    pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
    pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
    pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
    /// Where its containers may go beyond it; Docker has nothing like it.
    pub(crate) const EGRESS: &str = "hull.egress";
}

impl NetworkRecord {
    /// Whether this is the network of containers whose creators name none.
    pub(crate) fn is_default(&self) -> bool {
        self.name == super::DEFAULT_NETWORK
    }

    /// Its MTU in bytes.
    pub(crate) fn mtu(&self) -> u32 {
        let asked = self.options.get(option::MTU).and_then(|mtu| mtu.parse().ok());
        asked.unwrap_or(DEFAULT_MTU)
    }

    /// Whether it has addresses of IPv4.
    pub(crate) fn has_ipv4(&self) -> bool {
        self.gateways().any(|gateway| gateway.is_ipv4())
    }

    /// The host's address that ports of its containers are published on, unless they say another one.
    pub(crate) fn host_binding(&self) -> Option<IpAddr> {
        self.options.get(option::HOST_BINDING)?.parse().ok()
    }

    /// The host's addresses in it.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.subnets.iter().filter_map(|subnet| subnet.gateway)
    }

    fn is_on(&self, option: &str) -> bool {
        self.options.get(option).is_none_or(|value| value != "false")
    }

    /// What it is on the host.
    pub(crate) fn on_host(&self) -> HostNetwork {
        let with_prefix = |subnet: &SubnetConfig| {
            let prefix = subnet.subnet?.prefix_len();
            IpNet::new(subnet.gateway?, prefix).ok()
        };
        HostNetwork {
            bridge: Bridge {
                name: self.bridge.clone(),
                addresses: self.subnets.iter().filter_map(with_prefix).collect(),
                mtu: self.mtu(),
            },
            subnets: self.subnets.iter().filter_map(|subnet| subnet.subnet).collect(),
            internal: self.internal,
            inter_container: self.is_on(option::INTER_CONTAINER),
            masquerade: self.is_on(option::MASQUERADE),
        }
    }
}

/// Chooses what was left open about a subnet: its gateway.
pub(super) fn complete(mut config: SubnetConfig, subnet: IpNet) -> Result<SubnetConfig> {
    config.subnet = Some(subnet.trunc());
    config.gateway = Some(config.addresses()?.gateway());
    Ok(config)
}

/// The refusal of an address, as a client sees it.
pub(super) fn refused(error: SubnetError) -> EngineError {
    match error {
        SubnetError::InUse { .. } | SubnetError::UsedUp { .. } => EngineError::Forbidden(error.to_string()),
        error => EngineError::Invalid(error.to_string()),
    }
}
