//! The registry's name in an image reference: which host it is, and whether it may be spoken to without TLS.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use reqwest::Url;

use crate::config::ConfigError;

/// Docker Hub as references name it; its registry lives at another host.
const HUB: &str = "docker.io";
const HUB_ALIASES: [&str; 2] = [HUB, "index.docker.io"];
const HUB_ENDPOINT: &str = "registry-1.docker.io";
/// RFC 1035, section 2.3.4.
const MAX_HOST_NAME: usize = 253;

/// `HOST[:PORT]`, lower case, without a scheme: also the name of its folder in `certs.d`.
///
/// It holds nothing that could lead out of that folder: letters, digits, dots, hyphens, underscores, or an
/// IPv6 address in brackets, and the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    name: String,
    port: Option<u16>,
}

impl FromStr for Host {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = || ConfigError::Host(text.chars().take(MAX_HOST_NAME).collect());
        let bracket = text.rfind(']').unwrap_or(0);
        let (name, port) = match text.rfind(':').filter(|colon| *colon > bracket) {
            Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
            None => (text, None),
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| refuse())?)
            }
            Some(_) => return Err(refuse()),
            None => None,
        };
        if !is_host_name(name) && !is_bracketed_v6(name) {
            return Err(refuse());
        }
        Ok(Self {
            name: name.to_ascii_lowercase(),
            port,
        })
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= MAX_HOST_NAME && name.split('.').all(label)
}

fn is_bracketed_v6(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Host {
    /// Whether this is Docker Hub.
    pub(crate) fn is_hub(&self) -> bool {
        self.port.is_none() && HUB_ALIASES.contains(&self.name.as_str())
    }

    /// The host that serves this registry.
    pub(crate) fn endpoint(&self) -> Self {
        if !self.is_hub() {
            return self.clone();
        }
        Self {
            name: HUB_ENDPOINT.to_string(),
            port: None,
        }
    }

    /// The host and port of a URL, as `certs.d` would name it: without the scheme's own port.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let text = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str()?),
            None => url.host_str()?.to_string(),
        };
        text.trim_end_matches('.').parse().ok()
    }

    fn address(&self) -> Option<IpAddr> {
        self.name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
    }

    /// Whether this host is this machine. Names are not resolved: what DNS says must not turn TLS off.
    pub(crate) fn is_loopback(&self) -> bool {
        self.name == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }
}

/// A registry that may be spoken to without TLS, or with a certificate that nobody vouches for: `HOST`,
/// `HOST:PORT`, or a network such as `10.0.0.0/8` for registries that are named by their address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsecureHost(Rule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Host(Host),
    Network(IpNet),
}

impl From<Host> for InsecureHost {
    fn from(host: Host) -> Self {
        Self(Rule::Host(host))
    }
}

impl FromStr for InsecureHost {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self(Rule::Network(network)));
        }
        Ok(Self(Rule::Host(text.parse()?)))
    }
}

impl InsecureHost {
    /// As in Docker, a host without a port stands for that host at the default ports only.
    pub(crate) fn covers(&self, host: &Host) -> bool {
        match &self.0 {
            Rule::Host(insecure) => insecure == host,
            Rule::Network(network) => host.address().is_some_and(|address| network.contains(&address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn hosts_are_read_with_and_without_a_port() {
        for text in [
            "docker.io",
            "localhost:5000",
            "[::1]:5000",
            "[fe80::1]",
            "10.0.0.1:80",
            "under_score:1",
        ] {
            assert_eq!(host(text).to_string(), text);
        }
        assert_eq!(host("Registry.Example:443").to_string(), "registry.example:443");
        for text in [
            "",
            "a b",
            "..",
            "a/b",
            "../x",
            "a..b",
            "host:",
            "host:70000",
            "host:+1",
            "[::1",
            "::1",
            "a:b:1",
            "user@host",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn docker_hub_is_served_by_another_host() {
        assert_eq!(host("docker.io").endpoint().to_string(), "registry-1.docker.io");
        assert_eq!(host("quay.io").endpoint(), host("quay.io"));
        assert!(host("index.docker.io").is_hub() && !host("docker.io:5000").is_hub());
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for text in ["localhost", "localhost:1", "127.9.9.9:5000", "[::1]"] {
            assert!(host(text).is_loopback(), "{text}");
        }
        for text in ["localhost.example", "128.0.0.1", "127.example", "[::2]"] {
            assert!(!host(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn insecure_hosts_are_hosts_or_networks() {
        let covers = |rule: &str, name: &str| rule.parse::<InsecureHost>().unwrap().covers(&host(name));
        assert!(covers("10.0.0.0/8", "10.2.3.4:5000"));
        assert!(!covers("10.0.0.0/8", "11.2.3.4:5000"));
        assert!(covers("registry.lan:5000", "Registry.lan:5000"));
        assert!(!covers("registry.lan", "registry.lan:5000"));
        assert!(covers("fd00::/8", "[fd00::1]:1"));
    }

    proptest! {
        #[test]
        fn a_host_is_one_harmless_path_component_and_one_authority(text in "[\\[\\]a-zA-Z0-9:./@\\\\ %_?#-]{0,24}") {
            if let Ok(host) = text.parse::<Host>() {
                let name = host.to_string();
                prop_assert!(!name.contains(['/', '\\', '@', '?', '#', '%', ' ']));
                prop_assert!(name != "." && name != ".." && !name.is_empty());
                prop_assert_eq!(name.parse::<Host>().unwrap(), host);
            }
        }

        #[test]
        fn any_text_is_a_host_or_an_error(text in ".{0,300}") {
            let _ = text.parse::<Host>();
        }
    }
}
