//! The value of `--network`.

use std::str::FromStr;

use anyhow::{Context, bail};
use bollard_stubs::models::{EndpointIpamConfig, EndpointSettings};

use super::csv;

/// A network that a container is to be in: `NAME`, or `name=NAME,alias=ALIAS,ip=ADDRESS` and what else a place in a network has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct NetworkAttachment {
    pub(super) name: String,
    pub(super) endpoint: EndpointSettings,
}

impl FromStr for NetworkAttachment {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if !text.contains('=') {
            return Self::named(text);
        }
        let mut attachment = Self::default();
        for field in csv::fields(text) {
            let (key, value) = field
                .split_once('=')
                .with_context(|| format!("invalid field {field}"))?;
            attachment.field(&key.trim().to_lowercase(), value.trim())?;
        }
        let Self { name, endpoint } = attachment;
        Ok(Self {
            endpoint,
            ..Self::named(&name)?
        })
    }
}

impl NetworkAttachment {
    fn named(name: &str) -> anyhow::Result<Self> {
        if name.trim().is_empty() {
            bail!("no name set for network");
        }
        Ok(Self {
            name: name.to_owned(),
            endpoint: EndpointSettings::default(),
        })
    }

    fn field(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let endpoint = &mut self.endpoint;
        let text = value.to_owned();
        match key {
            "name" => self.name = text,
            "alias" => endpoint.aliases.get_or_insert_default().push(text),
            "ip" => addresses(endpoint).ipv4_address = Some(text),
            "ip6" => addresses(endpoint).ipv6_address = Some(text),
            "link-local-ip" => addresses(endpoint)
                .link_local_ips
                .get_or_insert_default()
                .push(text),
            "mac-address" => endpoint.mac_address = Some(text),
            "driver-opt" => {
                let (name, value) = value
                    .split_once('=')
                    .with_context(|| format!("invalid key value pair format in driver options: {value}"))?;
                let options = endpoint.driver_opts.get_or_insert_default();
                options.insert(name.trim().to_owned(), value.trim().to_owned());
            }
            "gw-priority" => {
                let priority = value
                    .parse()
                    .with_context(|| format!("invalid gw-priority: {value}"))?;
                endpoint.gw_priority = Some(priority);
            }
            _ => bail!("invalid field key {key}"),
        }
        Ok(())
    }

    /// Whether it is a network that somebody has made, and where containers find each other by their names.
    pub(super) fn is_user_defined(&self) -> bool {
        let name = self.name.as_str();
        !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
    }
}

/// The addresses that are asked for.
pub(super) fn addresses(endpoint: &mut EndpointSettings) -> &mut EndpointIpamConfig {
    endpoint.ipam_config.get_or_insert_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attachment(text: &str) -> anyhow::Result<NetworkAttachment> {
        text.parse()
    }

    #[test]
    fn a_network_is_a_name_or_has_fields() {
        let plain = attachment("web").unwrap();
        assert_eq!(plain.name, "web");
        assert_eq!(plain.endpoint, EndpointSettings::default());
        let full = attachment(
            "name=web,alias=a,alias=b,ip=10.0.0.5,IP6=fd00::5,mac-address=02:42:ac:11:00:02,\
             \"driver-opt=a=b,c\",gw-priority=-3,link-local-ip=169.254.0.9",
        );
        let full = full.unwrap();
        assert_eq!(full.name, "web");
        assert_eq!(
            json!(full.endpoint),
            json!({
                "IPAMConfig": {
                    "IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5", "LinkLocalIPs": ["169.254.0.9"]
                },
                "Aliases": ["a", "b"], "MacAddress": "02:42:ac:11:00:02", "DriverOpts": {"a": "b,c"}, "GwPriority": -3,
            })
        );
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, message) in [
            ("", "no name set for network"),
            ("alias=a", "no name set for network"),
            ("name=web,colour=red", "invalid field key colour"),
            ("name=web,alias", "invalid field alias"),
            ("name=web,gw-priority=x", "invalid gw-priority: x"),
            (
                "name=web,driver-opt=x",
                "invalid key value pair format in driver options: x",
            ),
        ] {
            assert_eq!(attachment(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn some_networks_are_nobodys() {
        let is_user_defined = |name: &str| attachment(name).unwrap().is_user_defined();
        assert!(is_user_defined("web"));
        for name in ["default", "bridge", "host", "none", "container:db"] {
            assert!(!is_user_defined(name), "{name}");
        }
    }
}
