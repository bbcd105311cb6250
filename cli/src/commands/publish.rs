//! `--publish`

use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, bail};
use bollard_stubs::models::PortBinding;

/// The value of a `--publish`: ports of the container, such as `80/tcp`, and where each is published.
#[derive(Debug, Clone)]
pub(super) struct Publish(pub(super) Vec<(String, PortBinding)>);

impl FromStr for Publish {
    type Err = anyhow::Error;

    /// Reads `[[ADDRESS:][HOST_PORTS]:]PORTS[/PROTOCOL]`, or `published=PORTS,target=PORTS,protocol=PROTOCOL`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let short = if text.contains('=') {
            short_form(text)?
        } else {
            text.to_owned()
        };
        read(&short)
    }
}

/// The short form of what has a name for each part.
fn short_form(text: &str) -> anyhow::Result<String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            // How a swarm would lead to it, which means nothing to one host.
            Some(("mode", _)) => {}
            _ => bail!("invalid publish opts format (should be name=value but got '{field}')"),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn read(text: &str) -> anyhow::Result<Publish> {
    let mut parts = text.rsplitn(3, ':');
    let port = parts.next().unwrap_or_default();
    let host_port = parts.next().unwrap_or_default();
    let address = read_address(parts.next().unwrap_or_default())?;
    let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        bail!("invalid proto: {protocol}");
    }
    if port.is_empty() {
        bail!("no port specified: {text}<empty>");
    }
    let ports = range(port).with_context(|| format!("invalid containerPort: {port}"))?;
    let host_ports = match host_port {
        "" => None,
        host_port => Some(range(host_port).with_context(|| format!("invalid hostPort: {host_port}"))?),
    };
    let count = ports.1 - ports.0;
    if let Some((first, last)) = host_ports
        && count != 0
        && last - first != count
    {
        bail!("invalid ranges specified for container and host Ports: {port} and {host_port}");
    }
    let bindings = (0..=count).map(|place| {
        let binding = PortBinding {
            host_ip: Some(address.clone()),
            host_port: Some(host_port_text(host_ports, place, count)),
        };
        (format!("{}/{protocol}", ports.0 + place), binding)
    });
    Ok(Publish(bindings.collect()))
}

/// The host's port for one of the container's; for a single one it may be a range, of which the first free one is taken.
fn host_port_text(host_ports: Option<(u16, u16)>, place: u16, count: u16) -> String {
    match host_ports {
        None => String::new(),
        Some((first, last)) if count == 0 && first != last => format!("{first}-{last}"),
        Some((first, _)) => (first + place).to_string(),
    }
}

/// Reads an address of the host, in brackets if it is one of IPv6; nothing is all of them.
fn read_address(text: &str) -> anyhow::Result<String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        bail!("invalid IP address: {bare}");
    }
    Ok(bare.to_owned())
}

/// Reads `80` or `80-90`.
pub(super) fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str) -> anyhow::Result<Vec<String>> {
        let Publish(bindings) = text.parse()?;
        let shown = bindings.into_iter().map(|(port, binding)| {
            let (address, host_port) = (binding.host_ip.unwrap(), binding.host_port.unwrap());
            format!("{address}|{host_port}|{port}")
        });
        Ok(shown.collect())
    }

    #[test]
    fn all_of_dockers_forms_are_read() {
        for (text, expected) in [
            ("80", &["||80/tcp"][..]),
            ("8080:80", &["|8080|80/tcp"]),
            (":80", &["||80/tcp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1|8080|80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1||80/tcp"]),
            ("[::1]:8080:80", &["::1|8080|80/tcp"]),
            ("::1:8080:80", &["::1|8080|80/tcp"]),
            ("5353:53/UDP", &["|5353|53/udp"]),
            ("80-82", &["||80/tcp", "||81/tcp", "||82/tcp"]),
            ("8000-8001:80-81/udp", &["|8000|80/udp", "|8001|81/udp"]),
            ("8000-8010:80", &["|8000-8010|80/tcp"]),
            (
                "published=8080,target=80,protocol=udp,mode=host",
                &["|8080|80/udp"],
            ),
            ("target=80", &["||80/tcp"]),
            ("65535", &["||65535/tcp"]),
        ] {
            assert_eq!(published(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_published_is_refused_in_dockers_words() {
        for (text, message) in [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("x", "invalid containerPort: x"),
            ("90-80", "invalid containerPort: 90-80"),
            ("70000", "invalid containerPort: 70000"),
            ("x:80", "invalid hostPort: x"),
            ("80/icmp", "invalid proto: icmp"),
            ("here:80:80", "invalid IP address: here"),
            (
                "1-3:80-81",
                "invalid ranges specified for container and host Ports: 80-81 and 1-3",
            ),
            (
                "80:80-81",
                "invalid ranges specified for container and host Ports: 80-81 and 80",
            ),
            (
                "target=80,x",
                "invalid publish opts format (should be name=value but got 'x')",
            ),
        ] {
            assert_eq!(published(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
