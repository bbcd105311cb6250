//! Published ports in Docker's words: `PortBindings`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bollard_stubs::models::{PortBinding as DockerBinding, PortMap};
use engine::{ContainerPort, PortBinding};

use crate::error::ApiError;

/// Reads the bindings, in the order of the container's ports. One that is asked for without a place on the host gets any.
pub(super) fn read(bindings: PortMap) -> Result<Vec<PortBinding>, ApiError> {
    let mut read: BTreeMap<ContainerPort, Vec<PortBinding>> = BTreeMap::new();
    for (port, places) in bindings {
        let port: ContainerPort = port.parse()?;
        let anywhere = || vec![DockerBinding::default()];
        let places = places.filter(|places| !places.is_empty());
        for place in places.unwrap_or_else(anywhere) {
            let binding = read_one(port, &place)?;
            read.entry(port).or_default().push(binding);
        }
    }
    Ok(read.into_values().flatten().collect())
}

fn read_one(port: ContainerPort, place: &DockerBinding) -> Result<PortBinding, ApiError> {
    let address = place.host_ip.as_deref().unwrap_or_default();
    let host = match address {
        "" => None,
        address => Some(address.parse::<IpAddr>().map_err(|_| {
            ApiError::bad_request(format!("invalid host address {address:?} of port {port}"))
        })?),
    };
    let host_ports = place.host_port.as_deref().unwrap_or_default();
    Ok(PortBinding {
        port,
        host,
        host_ports: read_range(host_ports)
            .ok_or_else(|| ApiError::bad_request(format!("invalid port specification: {host_ports:?}")))?,
    })
}

/// Reads `8080` or `8000-8010`; nothing and 0 are any port. The outer `None` is what is no port.
fn read_range(text: &str) -> Option<Option<(u16, u16)>> {
    if matches!(text, "" | "0") {
        return Some(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first != 0 && first <= last).then_some(Some((first, last)))
}

/// The same as [`read`] takes it.
pub(crate) fn describe(bindings: &[PortBinding]) -> PortMap {
    let mut described = PortMap::new();
    for binding in bindings {
        let place = DockerBinding {
            host_ip: Some(binding.host.map(|host| host.to_string()).unwrap_or_default()),
            host_port: Some(match binding.host_ports {
                None => String::new(),
                Some((first, last)) if first == last => first.to_string(),
                Some((first, last)) => format!("{first}-{last}"),
            }),
        };
        let places = described.entry(binding.port.to_string()).or_default();
        places.get_or_insert_default().push(place);
    }
    described
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bindings(value: Value) -> Result<Vec<PortBinding>, ApiError> {
        read(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn bindings_have_an_address_and_a_range_or_neither() {
        let read = bindings(json!({
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "8000-8010"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "0"}],
            "22": null,
            "23": [],
        }));
        let port = |text: &str| text.parse::<ContainerPort>().unwrap();
        let expected = [
            ("22/tcp", None, None),
            ("23/tcp", None, None),
            ("53/udp", Some("127.0.0.1"), None),
            ("80/tcp", None, Some((8080, 8080))),
            ("80/tcp", Some("::1"), Some((8000, 8010))),
        ];
        let expected = expected.map(|(number, host, host_ports)| PortBinding {
            port: port(number),
            host: host.map(|host: &str| host.parse().unwrap()),
            host_ports,
        });
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn what_is_told_is_read_as_the_same() {
        let read = bindings(json!({
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "0.0.0.0", "HostPort": "1-3"}, {}],
        }))
        .unwrap();
        let told = describe(&read);
        assert_eq!(
            serde_json::to_value(&told).unwrap(),
            json!({"80/tcp": [
                {"HostIp": "", "HostPort": "8080"}, {"HostIp": "0.0.0.0", "HostPort": "1-3"}, {"HostIp": "", "HostPort": ""},
            ]})
        );
        assert_eq!(super::read(told).unwrap(), read);
    }

    #[test]
    fn what_is_no_port_is_refused_with_its_text() {
        for (port, address, host_port, text) in [
            ("x/tcp", "", "80", "\"x/tcp\""),
            ("80/icmp", "", "80", "\"80/icmp\""),
            ("80/tcp", "here", "80", "\"here\""),
            ("80/tcp", "", "70000", "\"70000\""),
            ("80/tcp", "", "9-8", "\"9-8\""),
            ("80/tcp", "", "0-8", "\"0-8\""),
            ("80/tcp", "", "80/tcp", "\"80/tcp\""),
        ] {
            let error = bindings(json!({port: [{"HostIp": address, "HostPort": host_port}]})).unwrap_err();
            assert!(error.message().contains(text), "{}", error.message());
        }
    }
}
