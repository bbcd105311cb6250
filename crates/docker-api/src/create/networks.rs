//! The networks of a create request: `NetworkMode`, `NetworkingConfig`, `MacAddress` and `Links`; and a place in one of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bollard_stubs::models::{EndpointIpamConfig, EndpointSettings, HostConfig};
use engine::{ContainerCreate, DEFAULT_NETWORK, EndpointConfig, MacAddress, NO_NETWORK};
use serde::Deserialize;
use serde_json::Value;

use super::refusal::{self, refused};
use crate::body::typed;
use crate::error::ApiError;

/// A `NetworkingConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Body {
    endpoints_config: Option<BTreeMap<String, Value>>,
}

/// What is asked of networks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Networking {
    pub(super) no_network: bool,
    /// The network of its mode; empty is the default one.
    pub(super) network: String,
    pub(super) endpoints: BTreeMap<String, EndpointConfig>,
    pub(super) links: Vec<String>,
}

impl Networking {
    /// Reads what is asked for. `config` is the `NetworkingConfig`, `mac` the address of the container as a whole, which is that of its first network.
    pub(super) fn read(config: Value, host: &HostConfig, mac: Option<&str>) -> Result<Self, ApiError> {
        let mut network = host.network_mode.clone().unwrap_or_default();
        check_mode(&network)?;
        if network.is_empty() || network == "default" {
            network = DEFAULT_NETWORK.to_owned();
        }
        let mut endpoints = read_endpoints(config)?;
        // Who is in the default network only because nothing was said of a mode is where its endpoints say.
        if network == DEFAULT_NETWORK
            && !endpoints.contains_key(DEFAULT_NETWORK)
            && let Some(first) = endpoints.keys().next()
        {
            network.clone_from(first);
        }
        let no_network = network == NO_NETWORK;
        if no_network {
            // Every client names the default one, and means nothing by it.
            endpoints.retain(|name, config| name != DEFAULT_NETWORK || *config != EndpointConfig::default());
        }
        if let Some(mac) = mac.filter(|mac| !mac.is_empty()) {
            take_mac(&mut endpoints, &network, mac.parse()?)?;
        }
        if endpoints
            .get(&network)
            .is_some_and(|config| *config == EndpointConfig::default())
        {
            // Which goes without saying.
            endpoints.remove(&network);
        }
        if network == DEFAULT_NETWORK || no_network {
            network.clear();
        }
        let links = host.links.iter().flatten();
        Ok(Self {
            no_network,
            network,
            endpoints,
            links: links.map(|link| read_link(link)).collect::<Result<_, _>>()?,
        })
    }
}

/// Refuses the modes that only one kernel for all could give.
fn check_mode(mode: &str) -> Result<(), ApiError> {
    let why = if mode == "host" {
        "a container has a kernel and a network of its own, so it cannot have the host's interfaces: publish its ports with -p, \
         and reach the host's services as host.docker.internal"
    } else if mode.starts_with("container:") {
        "a container has a kernel and a network of its own, so it cannot have the interfaces of another one: put both into a \
         network (hull network create), where they find each other by their names"
    } else {
        return Ok(());
    };
    Err(refused("NetworkMode", Some(mode), Some(why)))
}

fn read_endpoints(config: Value) -> Result<BTreeMap<String, EndpointConfig>, ApiError> {
    let config: Option<Body> = typed(config)?;
    let mut endpoints = BTreeMap::new();
    for (mut name, settings) in config.unwrap_or_default().endpoints_config.unwrap_or_default() {
        check_mode(&name)?;
        if name == "default" {
            name = DEFAULT_NETWORK.to_owned();
        }
        endpoints.insert(name, read_endpoint(settings)?);
    }
    Ok(endpoints)
}

fn take_mac(
    endpoints: &mut BTreeMap<String, EndpointConfig>,
    network: &str,
    mac: MacAddress,
) -> Result<(), ApiError> {
    if network == NO_NETWORK {
        return Err(ApiError::bad_request(
            "conflicting options: mac-address and the network mode",
        ));
    }
    let endpoint = endpoints.entry(network.to_owned()).or_default();
    if endpoint.mac.is_some_and(|own| own != mac) {
        return Err(ApiError::bad_request(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
        ));
    }
    endpoint.mac = Some(mac);
    Ok(())
}

/// Reads `NAME`, `NAME:ALIAS`, or what an inspection tells of one, `/NAME:/CONTAINER/ALIAS`; answers `NAME:ALIAS`.
fn read_link(link: &str) -> Result<String, ApiError> {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let name = name.trim_start_matches('/');
    let alias = alias.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(ApiError::bad_request(format!("bad format for links: {link}")));
    }
    Ok(format!("{name}:{alias}"))
}

/// Reads an `EndpointSettings`; what is not known is refused.
pub(crate) fn read_endpoint(settings: Value) -> Result<EndpointConfig, ApiError> {
    refusal::check_endpoint(&settings)?;
    let settings: Option<EndpointSettings> = typed(settings)?;
    let settings = settings.unwrap_or_default();
    let addresses = settings.ipam_config.unwrap_or_default();
    let mac = settings.mac_address.filter(|mac| !mac.is_empty());
    let links = settings.links.unwrap_or_default();
    Ok(EndpointConfig {
        aliases: settings.aliases.unwrap_or_default(),
        links: links
            .iter()
            .map(|link| read_link(link))
            .collect::<Result<_, _>>()?,
        ipv4: address(addresses.ipv4_address.as_deref(), "IPv4")?,
        ipv6: address(addresses.ipv6_address.as_deref(), "IPv6")?,
        mac: mac.map(|mac| mac.parse()).transpose()?,
        gateway_priority: settings.gw_priority.unwrap_or_default(),
        driver_options: settings.driver_opts.unwrap_or_default().into_iter().collect(),
    })
}

fn address<A>(text: Option<&str>, family: &str) -> Result<Option<A>, ApiError>
where
    A: std::str::FromStr,
{
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid endpoint settings:\ninvalid {family} address: {text}"
        ))
    });
    address.map(Some)
}

/// The mode in Docker's words.
pub(crate) fn describe_mode(config: &ContainerCreate) -> &str {
    match config.network.as_str() {
        _ if config.no_network => NO_NETWORK,
        "" | "default" => DEFAULT_NETWORK,
        name => name,
    }
}

/// What was asked of a place in a network, as [`read_endpoint`] takes it.
pub(crate) fn describe_endpoint(config: &EndpointConfig) -> EndpointSettings {
    let list = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
    let addresses = EndpointIpamConfig {
        ipv4_address: config.ipv4.map(|address| IpAddr::from(address).to_string()),
        ipv6_address: config.ipv6.map(|address| IpAddr::from(address).to_string()),
        link_local_ips: None,
    };
    let options = config.driver_options.clone();
    EndpointSettings {
        ipam_config: Some(addresses).filter(|addresses| *addresses != EndpointIpamConfig::default()),
        links: list(&config.links),
        aliases: list(&config.aliases),
        mac_address: config.mac.map(|mac| mac.to_string()),
        driver_opts: (!options.is_empty()).then(|| options.into_iter().collect()),
        gw_priority: Some(config.gateway_priority),
        ..EndpointSettings::default()
    }
}

/// Links as an inspection of the container with this name tells them.
pub(crate) fn describe_links(config: &ContainerCreate, own_name: &str) -> Option<Vec<String>> {
    let links = config.links.iter().map(|link| {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        format!("/{name}:/{own_name}/{alias}")
    });
    Some(links.collect()).filter(|links: &Vec<_>| !links.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<Networking, ApiError> {
        let config = json!({ "EndpointsConfig": body["Endpoints"] });
        let host = HostConfig {
            network_mode: body["Mode"].as_str().map(str::to_owned),
            links: serde_json::from_value(body["Links"].clone()).unwrap(),
            ..HostConfig::default()
        };
        Networking::read(config, &host, body["Mac"].as_str())
    }

    fn refusal(body: Value) -> String {
        read(body).unwrap_err().message().to_owned()
    }

    #[test]
    fn who_asks_for_nothing_is_in_the_default_network() {
        for body in [
            json!({}),
            json!({"Mode": "default", "Endpoints": {"default": {"Aliases": null, "GwPriority": 0}}}),
            json!({"Mode": "bridge", "Endpoints": {"bridge": {}}}),
            json!({"Endpoints": {"default": {"NetworkID": "x", "IPAddress": "172.17.0.2", "DNSNames": ["y"]}}}),
        ] {
            assert_eq!(read(body.clone()).unwrap(), Networking::default(), "{body}");
        }
    }

    #[test]
    fn a_network_is_named_by_the_mode_or_by_an_endpoint() {
        let by_mode = read(json!({"Mode": "web"})).unwrap();
        assert_eq!((by_mode.network.as_str(), by_mode.endpoints.len()), ("web", 0));
        assert_eq!(read(json!({"Endpoints": {"web": {}}})).unwrap(), by_mode);
        let two = read(json!({"Mode": "web", "Endpoints": {"web": {}, "db": {"Aliases": ["x"]}}})).unwrap();
        assert_eq!(two.network, "web");
        assert_eq!(two.endpoints.keys().collect::<Vec<_>>(), ["db"]);
        let with_default = read(json!({"Endpoints": {"default": {}, "db": {}}})).unwrap();
        assert_eq!(with_default.network, "");
        assert_eq!(with_default.endpoints.keys().collect::<Vec<_>>(), ["db"]);
    }

    #[test]
    fn none_is_no_network() {
        for body in [
            json!({"Mode": "none", "Endpoints": {"none": {}}}),
            json!({"Mode": "none", "Endpoints": {"default": {}}}),
            json!({"Mode": "default", "Endpoints": {"none": {}}}),
        ] {
            let read = read(body).unwrap();
            let expected = Networking {
                no_network: true,
                ..Networking::default()
            };
            assert_eq!(read, expected);
        }
        assert_eq!(
            refusal(json!({"Mode": "none", "Mac": "02:42:ac:11:00:02"})),
            "conflicting options: mac-address and the network mode"
        );
    }

    #[test]
    fn modes_of_a_shared_kernel_are_refused_with_what_to_do() {
        let host = refusal(json!({"Mode": "host"}));
        assert!(host.starts_with("hull does not support NetworkMode `host` (--network): a container has"));
        assert!(host.contains("host.docker.internal"));
        let other = refusal(json!({"Mode": "container:db"}));
        assert!(other.contains("`container:db`") && other.contains("hull network create"));
        assert_eq!(refusal(json!({"Endpoints": {"host": {}}})), host);
    }

    #[test]
    fn what_is_asked_of_a_place_reaches_the_engine_and_is_told_again() {
        let settings = json!({
            "IPAMConfig": {"IPv4Address": "172.20.0.9", "IPv6Address": "fd00::9"},
            "Links": ["db:database"], "Aliases": ["www"], "MacAddress": "02:42:AC:11:00:09",
            "DriverOpts": {"a": "b"}, "GwPriority": 7,
        });
        let config = read_endpoint(settings.clone()).unwrap();
        assert_eq!(config.ipv4, "172.20.0.9".parse().ok());
        assert_eq!(config.ipv6, "fd00::9".parse().ok());
        assert_eq!(config.aliases, ["www"]);
        assert_eq!(config.gateway_priority, 7);
        let mut told = serde_json::to_value(describe_endpoint(&config)).unwrap();
        assert_eq!(told["MacAddress"], json!("02:42:ac:11:00:09"));
        told["MacAddress"] = settings["MacAddress"].clone();
        assert_eq!(told, settings);
        assert_eq!(read_endpoint(Value::Null).unwrap(), EndpointConfig::default());
    }

    #[test]
    fn a_place_that_cannot_be_had_is_refused() {
        for (settings, text) in [
            (json!({"IPAMConfig": {"IPv4Address": "fd00::1"}}), "fd00::1"),
            (
                json!({"IPAMConfig": {"IPv6Address": "x"}}),
                "invalid IPv6 address: x",
            ),
            (
                json!({"IPAMConfig": {"LinkLocalIPs": ["169.254.1.1"]}}),
                "LinkLocalIPs",
            ),
            (json!({"MacAddress": "02:42"}), "invalid MAC address: 02:42"),
            (json!({"Links": [":x"]}), "bad format for links: :x"),
            (json!({"Novelty": 1}), "hull does not support Novelty yet"),
            (json!([]), "not an object"),
        ] {
            let error = read_endpoint(settings).unwrap_err();
            assert!(error.message().contains(text), "{}", error.message());
        }
    }

    #[test]
    fn the_address_of_the_container_is_that_in_its_first_network() {
        let mac = "02:42:ac:11:00:02";
        let of = |read: &Networking, name: &str| read.endpoints[name].mac.map(|mac| mac.to_string());
        let plain = read(json!({"Mac": mac})).unwrap();
        assert_eq!(of(&plain, "bridge").as_deref(), Some(mac));
        let other = read(json!({"Mac": mac, "Endpoints": {"web": {}, "db": {}}, "Mode": "web"})).unwrap();
        assert_eq!(
            (of(&other, "web").as_deref(), of(&other, "db")),
            (Some(mac), None)
        );
        let contradiction =
            json!({"Mac": mac, "Endpoints": {"default": {"MacAddress": "02:42:ac:11:00:03"}}});
        assert!(refusal(contradiction).contains("must match"));
    }

    #[test]
    fn links_are_read_in_all_their_forms() {
        let read = read(json!({"Links": ["db", "db:base", "/db:/web/base"]})).unwrap();
        assert_eq!(read.links, ["db:db", "db:base", "db:base"]);
        let config = ContainerCreate {
            links: read.links,
            ..ContainerCreate::default()
        };
        let told = describe_links(&config, "web").unwrap();
        assert_eq!(told, ["/db:/web/db", "/db:/web/base", "/db:/web/base"]);
        for wrong in ["", ":", "a:", "a:b:c"] {
            assert!(
                refusal(json!({"Links": [wrong]})).contains("bad format"),
                "{wrong}"
            );
        }
    }
}
