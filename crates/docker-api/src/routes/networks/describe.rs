//! A network in Docker's words.

use std::collections::BTreeMap;

use engine::{Endpoint, Member, Network, SubnetConfig};
use serde::Serialize;

use super::SCOPE;

/// When those networks were made that every hull has.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What is answered about a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::routes) struct Described {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, MemberBody>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// The network whose configuration it has: none.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: BTreeMap<String, String>,
    /// `null` where there are no addresses.
    config: Option<Vec<Subnet>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Subnet {
    subnet: Option<String>,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    ip_range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

/// A container that runs in the network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemberBody {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

impl Described {
    pub(super) fn new(network: Network) -> Self {
        let members = network.members.into_iter();
        let subnets: Vec<Subnet> = network.subnets.into_iter().map(describe_subnet).collect();
        Self {
            name: network.name,
            id: network.id,
            created: network
                .created
                .map_or_else(|| NEVER.to_owned(), |created| created.to_string()),
            scope: SCOPE,
            driver: network.driver.as_str(),
            enable_ipv4: network.ipv4,
            enable_ipv6: network.ipv6,
            ipam: Ipam {
                driver: "default",
                options: BTreeMap::new(),
                config: Some(subnets).filter(|subnets| !subnets.is_empty()),
            },
            internal: network.internal,
            attachable: network.attachable,
            ingress: false,
            config_from: ConfigFrom::default(),
            config_only: false,
            containers: members
                .map(|member| (member.container.clone(), describe_member(member)))
                .collect(),
            options: network.options,
            labels: network.labels,
        }
    }
}

fn describe_subnet(subnet: SubnetConfig) -> Subnet {
    let auxiliary = subnet.auxiliary.into_iter();
    Subnet {
        subnet: subnet.subnet.map(|subnet| subnet.to_string()),
        ip_range: subnet.range.map(|range| range.to_string()),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: auxiliary
            .map(|(name, address)| (name, address.to_string()))
            .collect(),
    }
}

fn describe_member(member: Member) -> MemberBody {
    let endpoint = member.endpoint.as_ref();
    let text = |text: Option<String>| text.unwrap_or_default();
    MemberBody {
        name: member.name,
        endpoint_id: text(endpoint.map(|endpoint| endpoint.id.clone())),
        mac_address: text(endpoint.map(|endpoint| endpoint.mac.to_string())),
        ipv4_address: text(endpoint.and_then(Endpoint::ipv4).map(|net| net.to_string())),
        ipv6_address: text(endpoint.and_then(Endpoint::ipv6).map(|net| net.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use engine::NetworkDriver;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_network_is_described_in_dockers_words() {
        let member = Member {
            container: "c".repeat(64),
            name: "web".into(),
            endpoint: Some(Endpoint {
                id: "e".repeat(64),
                network: "n".repeat(64),
                nic: 0,
                interface: "eth0".into(),
                tap: "hullt0".into(),
                mac: "02:42:ac:12:00:02".parse().unwrap(),
                addresses: vec!["172.18.0.2/16".parse().unwrap()],
                gateways: vec!["172.18.0.1".parse().unwrap()],
            }),
        };
        let network = Network {
            id: "n".repeat(64),
            name: "front".into(),
            created: Some("2026-11-22T10:00:00.5Z".parse().unwrap()),
            driver: NetworkDriver::Bridge,
            internal: true,
            ipv4: true,
            ipv6: false,
            attachable: false,
            subnets: vec![SubnetConfig {
                subnet: Some("172.18.0.0/16".parse().unwrap()),
                gateway: Some("172.18.0.1".parse().unwrap()),
                range: Some("172.18.5.0/24".parse().unwrap()),
                auxiliary: BTreeMap::from([("router".to_owned(), "172.18.0.9".parse().unwrap())]),
            }],
            options: BTreeMap::from([("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())]),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            predefined: false,
            members: vec![member],
            users: 1,
        };
        assert_eq!(
            json!(Described::new(network)),
            json!({
                "Name": "front", "Id": "n".repeat(64), "Created": "2026-11-22T10:00:00.5Z", "Scope": "local",
                "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
                "IPAM": {"Driver": "default", "Options": {}, "Config": [{
                    "Subnet": "172.18.0.0/16", "IPRange": "172.18.5.0/24", "Gateway": "172.18.0.1",
                    "AuxiliaryAddresses": {"router": "172.18.0.9"},
                }]},
                "Internal": true, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""},
                "ConfigOnly": false,
                "Containers": {"c".repeat(64): {
                    "Name": "web", "EndpointID": "e".repeat(64), "MacAddress": "02:42:ac:12:00:02",
                    "IPv4Address": "172.18.0.2/16", "IPv6Address": "",
                }},
                "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": {"a": "b"},
            })
        );
    }
}
