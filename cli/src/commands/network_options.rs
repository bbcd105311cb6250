//! The options about names and addresses.

use std::collections::{BTreeSet, HashMap};

use anyhow::bail;
use bollard_stubs::models::{EndpointSettings, HostConfig, NetworkingConfig, PortBinding};
use clap::Args;

use super::network_attachment::{NetworkAttachment, addresses};
use super::publish::{self, Publish};

/// The network that the options without its name are about where none is named.
const DEFAULT_NETWORK: &str = "default";

/// What a container is called, what it finds by name, and how it is reached.
#[derive(Debug, Args)]
pub(super) struct NetworkOptions {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,

    /// Set custom DNS servers
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,

    /// Set DNS options
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,

    /// Set custom DNS search domains
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// Container NIS domain name
    #[arg(long, value_name = "NAME")]
    pub(super) domainname: Option<String>,

    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_parser = parse_ports)]
    expose: Vec<Ports>,

    /// Container host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(super) hostname: Option<String>,

    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,

    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,

    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,

    /// Container IPv4/IPv6 link-local addresses, which hull has none of
    #[arg(long, value_name = "ADDRESS", hide = true)]
    link_local_ip: Vec<String>,

    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,

    /// Connect a container to a network ("none"), or name=NETWORK,alias=NAME,ip=ADDRESS; may be given several times
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Vec<NetworkAttachment>,

    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,

    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "[[ADDRESS:]HOST_PORT:]PORT[/PROTOCOL]")]
    publish: Vec<Publish>,

    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,

    /// Let the container reach only these destinations beyond its networks: "all", "none", or
    /// HOST[:PORT[-PORT]][/tcp|/udp],... with a name, *.NAME, an IP address or a network as HOST
    #[arg(long, value_name = "POLICY")]
    egress: Vec<String>,
}

/// The annotation that tells the daemon of an egress policy.
const EGRESS_ANNOTATION: &str = "hull.egress";

/// Ports that a container says it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports(Vec<String>);

impl NetworkOptions {
    /// Adds what the daemon is told of them.
    pub(super) fn apply(&self, host: &mut HostConfig) {
        let list = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
        // Docker's command line takes `name=address`, too.
        let hosts: Vec<String> = self
            .add_host
            .iter()
            .map(|host| host.replacen('=', ":", 1))
            .collect();
        host.extra_hosts = list(&hosts);
        host.dns = list(&self.dns);
        host.dns_options = list(&self.dns_option);
        host.dns_search = list(&self.dns_search);
        host.network_mode = self.network.first().map(|first| first.name.clone());
        host.links = list(&self.link);
        host.publish_all_ports = self.publish_all.then_some(true);
        for (port, binding) in self.published() {
            let ports = host.port_bindings.get_or_insert_default();
            let bindings = ports.entry(port.clone()).or_default();
            bindings.get_or_insert_default().push(binding.clone());
        }
        if !self.egress.is_empty() {
            let annotations = host.annotations.get_or_insert_default();
            annotations.insert(EGRESS_ANNOTATION.to_owned(), self.egress.join(","));
        }
    }

    /// The places in networks that something is asked of, or that are not named by the mode alone.
    pub(super) fn endpoints(&self) -> anyhow::Result<Option<NetworkingConfig>> {
        let mut networks = self.network.clone();
        if networks.is_empty() {
            networks.push(NetworkAttachment {
                name: DEFAULT_NETWORK.to_owned(),
                ..NetworkAttachment::default()
            });
        }
        if let Some(first) = networks.first_mut() {
            self.apply_to_first(first)?;
        }
        let is_plain = networks.len() == 1
            && networks
                .iter()
                .all(|only| only.endpoint == EndpointSettings::default());
        if is_plain {
            return Ok(None);
        }
        let mut endpoints = HashMap::new();
        for NetworkAttachment { name, endpoint } in networks {
            if endpoints.insert(name.clone(), endpoint).is_some() {
                bail!("network {name:?} is specified multiple times");
            }
        }
        Ok(Some(NetworkingConfig {
            endpoints_config: Some(endpoints),
        }))
    }

    /// Options that name no network are about the first one.
    fn apply_to_first(&self, first: &mut NetworkAttachment) -> anyhow::Result<()> {
        // In the default network a link is one of the container as a whole.
        let links = if first.is_user_defined() {
            &self.link[..]
        } else {
            &[]
        };
        let endpoint = &mut first.endpoint;
        let asked = endpoint.ipam_config.clone().unwrap_or_default();
        let conflicts = [
            (
                !self.network_alias.is_empty() && endpoint.aliases.is_some(),
                "--network-alias and per-network alias",
            ),
            (
                self.ip.is_some() && asked.ipv4_address.is_some(),
                "--ip and per-network IPv4 address",
            ),
            (
                self.ip6.is_some() && asked.ipv6_address.is_some(),
                "--ip6 and per-network IPv6 address",
            ),
            (
                !self.link_local_ip.is_empty() && asked.link_local_ips.is_some(),
                "--link-local-ip and per-network link-local IP addresses",
            ),
            (
                self.mac_address.is_some() && endpoint.mac_address.is_some(),
                "--mac-address and per-network MAC address",
            ),
        ];
        if let Some((_, both)) = conflicts.iter().find(|(conflict, _)| *conflict) {
            bail!("conflicting options: cannot specify both {both}");
        }
        let list = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
        endpoint.aliases = endpoint.aliases.take().or(list(&self.network_alias));
        endpoint.links = list(links);
        endpoint.mac_address = endpoint.mac_address.take().or(self.mac_address.clone());
        if self.ip.is_some() || self.ip6.is_some() || !self.link_local_ip.is_empty() {
            let addresses = addresses(endpoint);
            addresses.ipv4_address = asked.ipv4_address.or(self.ip.clone());
            addresses.ipv6_address = asked.ipv6_address.or(self.ip6.clone());
            addresses.link_local_ips = asked.link_local_ips.or(list(&self.link_local_ip));
        }
        Ok(())
    }

    fn published(&self) -> impl Iterator<Item = &(String, PortBinding)> {
        self.publish.iter().flat_map(|Publish(bindings)| bindings)
    }

    /// Ports that are exposed, and those that are so because they are published.
    pub(super) fn exposed(&self) -> Vec<String> {
        let exposed = self.expose.iter().flat_map(|ports| ports.0.iter().cloned());
        let published = self.published().map(|(port, _)| port.clone());
        let all: BTreeSet<String> = exposed.chain(published).collect();
        all.into_iter().collect()
    }
}

/// `80`, `80/udp` or `80-90/tcp`.
fn parse_ports(text: &str) -> Result<Ports, String> {
    let invalid =
        || format!("invalid range format for --expose: {text:?}: write 80, 80/udp or 8000-8010/tcp");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match publish::range(ports) {
        Some((first, last)) if matches!(protocol, "tcp" | "udp" | "sctp") => Ok(Ports(
            (first..=last).map(|port| format!("{port}/{protocol}")).collect(),
        )),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: NetworkOptions,
    }

    fn options(line: &str) -> NetworkOptions {
        let words = line.split(' ').filter(|word| !word.is_empty());
        Line::try_parse_from(["run"].into_iter().chain(words))
            .unwrap()
            .options
    }

    fn endpoints(line: &str) -> Value {
        json!(options(line).endpoints().unwrap())["EndpointsConfig"].take()
    }

    #[test]
    fn options_without_a_network_are_about_the_first() {
        assert_eq!(endpoints(""), Value::Null);
        assert_eq!(endpoints("--network web"), Value::Null);
        assert_eq!(
            endpoints("--mac-address 02:42:ac:11:00:02 --link db"),
            json!({"default": {"MacAddress": "02:42:ac:11:00:02"}})
        );
        assert_eq!(
            endpoints(
                "--network web --network-alias a --ip 10.0.0.5 --ip6 fd00::5 --link db:base --network back"
            ),
            json!({
                "web": {
                    "Aliases": ["a"], "Links": ["db:base"],
                    "IPAMConfig": {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5"},
                },
                "back": {},
            })
        );
        assert_eq!(
            endpoints("--network name=web,ip=10.0.0.5 --ip6 fd00::5"),
            json!({"web": {"IPAMConfig": {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5"}}})
        );
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        for (line, message) in [
            (
                "--network name=web,alias=a --network-alias b",
                "conflicting options: cannot specify both --network-alias and per-network alias",
            ),
            (
                "--network name=web,ip=10.0.0.5 --ip 10.0.0.6",
                "conflicting options: cannot specify both --ip and per-network IPv4 address",
            ),
            (
                "--network web --network web",
                "network \"web\" is specified multiple times",
            ),
        ] {
            assert_eq!(options(line).endpoints().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn published_ports_are_bound_and_exposed() {
        let options = options("-p 8080:80 -p 127.0.0.1::80 -p 53/udp --expose 80 --expose 22 -P");
        assert_eq!(options.exposed(), ["22/tcp", "53/udp", "80/tcp"]);
        let mut host = HostConfig::default();
        options.apply(&mut host);
        assert_eq!(
            json!(host.port_bindings),
            json!({
                "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": ""}],
                "53/udp": [{"HostIp": "", "HostPort": ""}],
            })
        );
        assert_eq!(host.publish_all_ports, Some(true));
    }

    #[test]
    fn ports_are_numbers_and_ranges() {
        let ports = |text| parse_ports(text).map(|ports| ports.0.join(" "));
        assert_eq!(ports("80").unwrap(), "80/tcp");
        assert_eq!(ports("53/udp").unwrap(), "53/udp");
        assert_eq!(ports("1-3/tcp").unwrap(), "1/tcp 2/tcp 3/tcp");
        for text in ["", "x", "3-1", "70000", "80/icmp", "80/"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn egress_policies_add_up() {
        let mut host = HostConfig::default();
        options("").apply(&mut host);
        assert_eq!(host.annotations, None);
        host.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        options("--egress a.b:443 --egress 10.0.0.0/8,c.d").apply(&mut host);
        let annotations = host.annotations.unwrap();
        assert_eq!(annotations["hull.egress"], "a.b:443,10.0.0.0/8,c.d");
        assert_eq!(annotations["a"], "b");
    }
}
