//! The networks and open ports of a container, as lists and inspections tell them.

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{
    EndpointSettings, PortBinding as DockerBinding, PortMap, PortSummary, PortSummaryTypeEnum,
};
use engine::{
    Container, ContainerCreate, ContainerNetwork, DEFAULT_NETWORK, Endpoint, NO_NETWORK, PublishedPort,
    Status,
};
use serde_json::{Map, Value, json};

use crate::create::networks::describe_endpoint;
use crate::version::ApiVersion;

/// From this version on the names that a container has by itself are not told among its aliases.
const OWN_NAMES_APART: ApiVersion = ApiVersion { major: 1, minor: 45 };
/// How many characters of an id make a name.
const SHORT_ID: usize = 12;

/// A port of a container: its number and protocol.
type Port = (u16, String);

/// The networks of a container by name, with its place in each while it runs.
pub(super) fn networks(container: &Container) -> HashMap<String, EndpointSettings> {
    let networks = container.networks.iter();
    let place = |(name, network): (&String, &ContainerNetwork)| {
        let place = describe_place(network);
        let own_names = is_user_defined(name).then(|| own_names(container, network));
        let place = EndpointSettings {
            dns_names: own_names,
            ..place
        };
        (name.clone(), place)
    };
    networks.map(place).collect()
}

/// Whether others find a container in it by its names.
fn is_user_defined(network: &str) -> bool {
    network != DEFAULT_NETWORK && network != NO_NETWORK
}

/// The names that others in the network find it by.
fn own_names(container: &Container, network: &ContainerNetwork) -> Vec<String> {
    let mut names = vec![container.name.clone()];
    let aliases = network.config.aliases.iter().cloned();
    for name in aliases.chain([short_id(&container.id)]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn short_id(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

fn describe_place(network: &ContainerNetwork) -> EndpointSettings {
    let endpoint = network.endpoint.as_ref();
    let address = |of: fn(&Endpoint) -> Option<std::net::IpAddr>| {
        Some(
            endpoint
                .and_then(of)
                .map(|address| address.to_string())
                .unwrap_or_default(),
        )
    };
    let prefix = |length: Option<u8>| Some(i64::from(length.unwrap_or_default()));
    let ipv4 = endpoint.and_then(Endpoint::ipv4);
    let ipv6 = endpoint.and_then(Endpoint::ipv6);
    let asked = describe_endpoint(&network.config);
    EndpointSettings {
        network_id: Some(network.id.clone()),
        endpoint_id: Some(endpoint.map(|endpoint| endpoint.id.clone()).unwrap_or_default()),
        gateway: address(Endpoint::gateway4),
        ip_address: Some(ipv4.map(|net| net.addr().to_string()).unwrap_or_default()),
        ip_prefix_len: prefix(ipv4.map(|net| net.prefix_len())),
        ipv6_gateway: address(Endpoint::gateway6),
        global_ipv6_address: Some(ipv6.map(|net| net.addr().to_string()).unwrap_or_default()),
        global_ipv6_prefix_len: prefix(ipv6.map(|net| net.prefix_len())),
        mac_address: match endpoint {
            Some(endpoint) => Some(endpoint.mac.to_string()),
            None => asked.mac_address.clone().or(Some(String::new())),
        },
        ..asked
    }
}

/// `NetworkSettings` of an inspection, with all fields that Docker's has.
pub(super) fn network_settings(container: &Container, version: ApiVersion) -> Value {
    let networks = networks(container);
    let mut settings = default_network(networks.get(DEFAULT_NETWORK));
    let networks: Map<String, Value> = networks
        .into_iter()
        .map(|(name, mut place)| {
            if version < OWN_NAMES_APART && is_user_defined(&name) {
                let aliases = place.aliases.get_or_insert_default();
                let short_id = short_id(&container.id);
                if !aliases.contains(&short_id) {
                    aliases.push(short_id);
                }
            }
            (name, complete(&place))
        })
        .collect();
    settings.insert("Networks".into(), networks.into());
    settings.insert("Ports".into(), json!(ports(container)));
    settings.into()
}

/// The place in the default network, which older clients look for outside of `Networks`.
fn default_network(place: Option<&EndpointSettings>) -> Map<String, Value> {
    let place = place.cloned().unwrap_or_default();
    let text = |text: Option<String>| Value::from(text.unwrap_or_default());
    let number = |number: Option<i64>| Value::from(number.unwrap_or_default());
    let fields = [
        ("Bridge", "".into()),
        ("EndpointID", text(place.endpoint_id)),
        ("Gateway", text(place.gateway)),
        ("GlobalIPv6Address", text(place.global_ipv6_address)),
        ("GlobalIPv6PrefixLen", number(place.global_ipv6_prefix_len)),
        ("HairpinMode", false.into()),
        ("IPAddress", text(place.ip_address)),
        ("IPPrefixLen", number(place.ip_prefix_len)),
        ("IPv6Gateway", text(place.ipv6_gateway)),
        ("LinkLocalIPv6Address", "".into()),
        ("LinkLocalIPv6PrefixLen", 0.into()),
        ("MacAddress", text(place.mac_address)),
        ("SandboxID", "".into()),
        ("SandboxKey", "".into()),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
    ];
    let fields = fields.into_iter();
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A place with the fields that are left out where there is nothing to tell, and that clients take to be there.
fn complete(place: &EndpointSettings) -> Value {
    let mut told = json!(place);
    for name in ["IPAMConfig", "Links", "Aliases", "DriverOpts", "DNSNames"] {
        if told.get(name).is_none() {
            told[name] = Value::Null;
        }
    }
    told
}

/// The ports of a container that runs, and where they are published.
fn ports(container: &Container) -> PortMap {
    let open = open_ports(container);
    let describe = |((number, protocol), published): (Port, Vec<PublishedPort>)| {
        let places = published.iter().map(|published| DockerBinding {
            host_ip: Some(published.host.to_string()),
            host_port: Some(published.host_port.to_string()),
        });
        let places = Some(places.collect()).filter(|places: &Vec<_>| !places.is_empty());
        (format!("{number}/{protocol}"), places)
    };
    open.into_iter().map(describe).collect()
}

/// The same for a list.
pub(super) fn port_summaries(container: &Container) -> Vec<PortSummary> {
    let open = open_ports(container).into_iter();
    open.flat_map(|((number, protocol), published)| {
        let typ = match protocol.as_str() {
            "udp" => PortSummaryTypeEnum::UDP,
            "sctp" => PortSummaryTypeEnum::SCTP,
            _ => PortSummaryTypeEnum::TCP,
        };
        let exposed = PortSummary {
            ip: None,
            private_port: number,
            public_port: None,
            typ: Some(typ),
        };
        if published.is_empty() {
            return vec![exposed];
        }
        let published = published.iter().map(|published| PortSummary {
            ip: Some(published.host.to_string()),
            public_port: Some(published.host_port),
            ..exposed.clone()
        });
        published.collect()
    })
    .collect()
}

fn open_ports(container: &Container) -> BTreeMap<Port, Vec<PublishedPort>> {
    let is_up = matches!(container.state.status, Status::Running | Status::Paused);
    if !is_up || container.config.no_network {
        return BTreeMap::new();
    }
    merge_ports(&container.config, &container.published)
}

/// What is exposed and what is published, by port.
fn merge_ports(config: &ContainerCreate, published: &[PublishedPort]) -> BTreeMap<Port, Vec<PublishedPort>> {
    let exposed = config.exposed_ports.iter().filter_map(|port| read_port(port));
    let mut ports: BTreeMap<Port, Vec<PublishedPort>> = exposed.map(|port| (port, Vec::new())).collect();
    for published in published {
        let port = (published.port.number, published.port.protocol.to_string());
        ports.entry(port).or_default().push(*published);
    }
    ports
}

/// Reads a port as an image exposes it; `None` is what no image of Docker's has.
pub(super) fn read_port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((number.parse().ok()?, protocol.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(port: &str, host: &str, host_port: u16) -> PublishedPort {
        PublishedPort {
            port: port.parse().unwrap(),
            host: host.parse().unwrap(),
            host_port,
        }
    }

    fn container() -> Container {
        let endpoint = Endpoint {
            id: "e".repeat(64),
            network: "n".repeat(64),
            nic: 0,
            interface: "eth0".into(),
            tap: "hullt0".into(),
            mac: "02:42:ac:12:00:02".parse().unwrap(),
            addresses: vec!["172.18.0.2/16".parse().unwrap(), "fd00::2/64".parse().unwrap()],
            gateways: vec!["172.18.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        let config = engine::EndpointConfig {
            aliases: vec!["www".into()],
            ..engine::EndpointConfig::default()
        };
        let network = ContainerNetwork {
            id: "n".repeat(64),
            config,
            endpoint: Some(endpoint),
        };
        Container {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            config: ContainerCreate {
                exposed_ports: ["80/tcp", "443/tcp", "9/sctp"].map(str::to_owned).into(),
                ..ContainerCreate::default()
            },
            args: Vec::new(),
            state: engine::ContainerState {
                status: Status::Running,
                ..engine::ContainerState::default()
            },
            health: None,
            mounts: Vec::new(),
            log_path: Default::default(),
            disk_path: Default::default(),
            exec_ids: Vec::new(),
            vm: engine::VmSize::default(),
            timeline: engine::Timeline::default(),
            networks: BTreeMap::from([("front".to_owned(), network)]),
            published: vec![
                published("80", "0.0.0.0", 8080),
                published("80", "::", 8080),
                published("53/udp", "127.0.0.1", 5353),
            ],
        }
    }

    #[test]
    fn a_place_has_all_that_dockers_has() {
        let settings = network_settings(&container(), ApiVersion::NEWEST);
        assert_eq!(
            settings["Networks"],
            json!({"front": {
                "IPAMConfig": null, "Links": null, "Aliases": ["www"], "MacAddress": "02:42:ac:12:00:02",
                "DriverOpts": null, "GwPriority": 0, "NetworkID": "n".repeat(64), "EndpointID": "e".repeat(64),
                "Gateway": "172.18.0.1", "IPAddress": "172.18.0.2", "IPPrefixLen": 16, "IPv6Gateway": "fd00::1",
                "GlobalIPv6Address": "fd00::2", "GlobalIPv6PrefixLen": 64,
                "DNSNames": ["web", "www", "0123456789ab"],
            }})
        );
        // It is in no default network.
        assert_eq!(
            (&settings["IPAddress"], &settings["IPPrefixLen"]),
            (&json!(""), &json!(0))
        );
    }

    #[test]
    fn older_clients_find_the_id_among_the_aliases_and_the_default_network_outside() {
        let mut container = container();
        let old = ApiVersion { major: 1, minor: 44 };
        let settings = network_settings(&container, old);
        let aliases = &settings["Networks"]["front"]["Aliases"];
        assert_eq!(*aliases, json!(["www", "0123456789ab"]));
        let network = container.networks.remove("front").unwrap();
        container.networks.insert("bridge".into(), network);
        let settings = network_settings(&container, old);
        assert_eq!(settings["IPAddress"], "172.18.0.2");
        assert_eq!(settings["MacAddress"], "02:42:ac:12:00:02");
        assert_eq!(settings["Networks"]["bridge"]["Aliases"], json!(["www"]));
        assert_eq!(settings["Networks"]["bridge"]["DNSNames"], Value::Null);
    }

    #[test]
    fn one_that_does_not_run_keeps_its_networks_and_has_no_ports() {
        let mut container = container();
        container.state.status = Status::Exited;
        container.networks.get_mut("front").unwrap().endpoint = None;
        let settings = network_settings(&container, ApiVersion::NEWEST);
        let place = &settings["Networks"]["front"];
        assert_eq!(
            (&place["IPAddress"], &place["EndpointID"]),
            (&json!(""), &json!(""))
        );
        assert_eq!(place["NetworkID"], "n".repeat(64));
        assert_eq!(settings["Ports"], json!({}));
        assert!(port_summaries(&container).is_empty());
    }

    #[test]
    fn ports_are_told_with_their_places_or_as_exposed() {
        let settings = network_settings(&container(), ApiVersion::NEWEST);
        assert_eq!(
            settings["Ports"],
            json!({
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
                "443/tcp": null, "9/sctp": null,
                "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
            })
        );
        assert_eq!(
            json!(port_summaries(&container())),
            json!([
                {"PrivatePort": 9, "Type": "sctp"},
                {"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 5353, "Type": "udp"},
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"},
            ])
        );
    }
}
