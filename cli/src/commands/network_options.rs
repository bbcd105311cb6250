//! The options about names and addresses.

use bollard_stubs::models::HostConfig;
use clap::Args;

/// What a container is called, and what it finds by name.
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

    /// Connect a container to a network ("none")
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Option<String>,
}

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
        host.network_mode = self.network.clone();
    }

    /// Ports as the daemon is told of them.
    pub(super) fn exposed(&self) -> Vec<String> {
        self.expose.iter().flat_map(|ports| ports.0.clone()).collect()
    }
}

/// `80`, `80/udp` or `80-90/tcp`.
fn parse_ports(text: &str) -> Result<Ports, String> {
    let invalid =
        || format!("invalid range format for --expose: {text:?}: write 80, 80/udp or 8000-8010/tcp");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last && matches!(protocol, "tcp" | "udp" | "sctp") => Ok(Ports(
            (first..=last).map(|port| format!("{port}/{protocol}")).collect(),
        )),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
