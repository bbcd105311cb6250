//! `hull port`

use anyhow::{Context, anyhow};
use bollard_stubs::models::{ContainerInspectResponse, PortBinding, PortMap};
use clap::Args;

use super::open_ports::with_port;
use super::print;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull port CONTAINER [PRIVATE_PORT[/PROTO]]")]
pub(crate) struct Arguments {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The port of the container whose places on the host are wanted; all without it
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let Arguments { container, port } = arguments;
    let target = Target::new(&["containers", &container, "json"]);
    let inspection: ContainerInspectResponse = client.get(target).await?;
    let settings = inspection.network_settings.unwrap_or_default();
    let ports = settings.ports.unwrap_or_default();
    let lines = match &port {
        None => all(&ports),
        Some(port) => {
            one(&ports, port)?.ok_or_else(|| anyhow!("no public port '{port}' published for {container}"))?
        }
    };
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(print(&text)?)
}

/// All ports with their places, in the order of their numbers.
fn all(ports: &PortMap) -> Vec<String> {
    let mut lines: Vec<(u16, String)> = Vec::new();
    for (port, bindings) in ports {
        let number = port.split('/').next().and_then(|number| number.parse().ok());
        for binding in bindings.iter().flatten() {
            lines.push((
                number.unwrap_or_default(),
                format!("{port} -> {}", place(binding)),
            ));
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// The places of one port; `None` if it is not published.
fn one(ports: &PortMap, wanted: &str) -> anyhow::Result<Option<Vec<String>>> {
    let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    port.parse::<u16>()
        .with_context(|| format!("invalid port ({port})"))?;
    let bindings = ports.get(&format!("{port}/{protocol}")).cloned().flatten();
    let bindings = bindings.filter(|bindings| !bindings.is_empty());
    Ok(bindings.map(|bindings| {
        let mut places: Vec<String> = bindings.iter().map(place).collect();
        places.sort();
        places
    }))
}

fn place(binding: &PortBinding) -> String {
    with_port(
        binding.host_ip.as_deref().unwrap_or_default(),
        binding.host_port.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ports() -> PortMap {
        serde_json::from_value(json!({
            "443/tcp": null,
            "80/tcp": [{"HostIp": "::", "HostPort": "8080"}, {"HostIp": "0.0.0.0", "HostPort": "8080"}],
            "1053/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        }))
        .unwrap()
    }

    #[test]
    fn all_ports_come_in_the_order_of_their_numbers() {
        let expected = [
            "80/tcp -> 0.0.0.0:8080",
            "80/tcp -> [::]:8080",
            "1053/udp -> 127.0.0.1:53",
        ];
        assert_eq!(all(&ports()), expected);
    }

    #[test]
    fn one_port_has_places_or_is_not_published() {
        let found = |wanted| one(&ports(), wanted).unwrap();
        assert_eq!(found("80").unwrap(), ["0.0.0.0:8080", "[::]:8080"]);
        assert_eq!(found("1053/udp").unwrap(), ["127.0.0.1:53"]);
        for unpublished in ["443", "1053", "81/tcp"] {
            assert_eq!(found(unpublished), None, "{unpublished}");
        }
        assert!(one(&ports(), "http").is_err());
    }
}
