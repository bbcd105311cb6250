//! The files about names that a container gets: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.

use std::net::IpAddr;

use sandbox::File;

use crate::{ContainerCreate, EngineError, Result};

const LOOPBACK: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// What the files tell of a container's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addressing {
    /// The container's own addresses.
    pub(crate) own: Vec<IpAddr>,
    /// The host's address in the first of its networks.
    pub(crate) gateway: Option<IpAddr>,
    /// Where its networks' names are told; `None` where nobody tells any, or it asks others.
    pub(crate) server: Option<IpAddr>,
}

/// What stands for the host's address in `--add-host`.
const HOST_GATEWAY: &str = "host-gateway";

/// The files of a container with this host name.
pub(crate) fn files(config: &ContainerCreate, hostname: &str, addressing: &Addressing) -> Vec<File> {
    let host_resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let file = |target: &str, content: String| File {
        target: target.into(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        content: content.into(),
    };
    vec![
        file("/etc/hostname", format!("{hostname}\n")),
        file("/etc/hosts", hosts(config, hostname, addressing)),
        file(
            "/etc/resolv.conf",
            resolver(config, &host_resolver, addressing.server),
        ),
    ]
}

/// Refuses what cannot be a line of `/etc/hosts`.
pub(crate) fn check_extra_hosts(hosts: &[String]) -> Result<()> {
    for host in hosts {
        let valid = host.split_once(':').is_some_and(|(name, address)| {
            let is_address = address == HOST_GATEWAY || address.parse::<IpAddr>().is_ok();
            !name.is_empty() && !name.contains(char::is_whitespace) && is_address
        });
        if !valid {
            return Err(EngineError::Invalid(format!("bad format for add-host: {host:?}")));
        }
    }
    Ok(())
}

fn hosts(config: &ContainerCreate, hostname: &str, addressing: &Addressing) -> String {
    let mut text = LOOPBACK.to_owned();
    for host in &config.extra_hosts {
        match (host.split_once(':'), addressing.gateway) {
            (Some((name, HOST_GATEWAY)), Some(gateway)) => text += &format!("{gateway}\t{name}\n"),
            // Without a network there is no way to the host.
            (Some((_, HOST_GATEWAY)), None) | (None, _) => {}
            (Some((name, address)), _) => text += &format!("{address}\t{name}\n"),
        }
    }
    let names = match config.domain_name.as_str() {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    if addressing.own.is_empty() {
        return text + &format!("127.0.1.1\t{names}\n");
    }
    let lines = addressing
        .own
        .iter()
        .map(|address| format!("{address}\t{names}\n"));
    text + &lines.collect::<String>()
}

fn resolver(config: &ContainerCreate, host: &str, server: Option<IpAddr>) -> String {
    let mut lines = Vec::new();
    let of_host = |key: &'static str| {
        host.lines()
            .map(str::trim)
            .filter(move |line| line.split_whitespace().next() == Some(key))
    };
    if let Some(server) = server {
        lines.push(format!("nameserver {server}"));
    } else if config.dns.is_empty() {
        // A server on the host's loopback cannot be reached from a guest.
        let reachable = |line: &&str| {
            let address = line
                .split_whitespace()
                .nth(1)
                .and_then(|address| address.parse::<IpAddr>().ok());
            address.is_some_and(|address| !address.is_loopback())
        };
        lines.extend(of_host("nameserver").filter(reachable).map(str::to_owned));
    } else {
        lines.extend(config.dns.iter().map(|server| format!("nameserver {server}")));
    }
    match config.dns_search.as_slice() {
        [] => lines.extend(of_host("search").map(str::to_owned)),
        domains => lines.push(format!("search {}", domains.join(" "))),
    }
    match config.dns_options.as_slice() {
        [] => lines.extend(of_host("options").map(str::to_owned)),
        options => lines.push(format!("options {}", options.join(" "))),
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch corp.example\noptions edns0\n";

    #[test]
    fn the_hosts_resolver_is_taken_without_its_loopback() {
        let text = resolver(&ContainerCreate::default(), HOST, None);
        assert_eq!(text, "nameserver 10.0.0.2\nsearch corp.example\noptions edns0\n");
    }

    #[test]
    fn servers_that_were_asked_for_take_their_place() {
        let config = ContainerCreate {
            dns: vec!["1.1.1.1".into()],
            dns_search: vec!["a.example".into(), "b.example".into()],
            ..ContainerCreate::default()
        };
        assert_eq!(
            resolver(&config, HOST, None),
            "nameserver 1.1.1.1\nsearch a.example b.example\noptions edns0\n"
        );
    }

    #[test]
    fn extra_hosts_come_before_the_own_name() {
        let config = ContainerCreate {
            extra_hosts: vec!["db:10.0.0.9".into(), "v6:fd00::1".into()],
            domain_name: "example".into(),
            ..ContainerCreate::default()
        };
        let text = hosts(&config, "web", &Addressing::default());
        assert!(
            text.ends_with("10.0.0.9\tdb\nfd00::1\tv6\n127.0.1.1\tweb.example web\n"),
            "{text}"
        );
        assert!(check_extra_hosts(&config.extra_hosts).is_ok());
        assert!(check_extra_hosts(&["host.docker.internal:host-gateway".into()]).is_ok());
        assert!(check_extra_hosts(&["db".into()]).is_err());
        assert!(check_extra_hosts(&["a b:10.0.0.9".into()]).is_err());
    }

    #[test]
    fn a_container_in_networks_is_found_by_its_addresses_and_asks_there() {
        let config = ContainerCreate {
            extra_hosts: vec!["gate:host-gateway".into()],
            ..ContainerCreate::default()
        };
        let addressing = Addressing {
            own: vec!["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            gateway: "172.17.0.1".parse().ok(),
            server: "172.17.0.1".parse().ok(),
        };
        let text = hosts(&config, "web", &addressing);
        assert!(
            text.ends_with("172.17.0.1\tgate\n172.17.0.2\tweb\nfd00::2\tweb\n"),
            "{text}"
        );
        assert!(!hosts(&config, "web", &Addressing::default()).contains("gate"));
        assert_eq!(
            resolver(&config, HOST, addressing.server),
            "nameserver 172.17.0.1\nsearch corp.example\noptions edns0\n"
        );
    }
}
