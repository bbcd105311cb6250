//! The open ports of a container as a list shows them.

use bollard_stubs::models::PortSummary;

/// Ports that follow each other and are published, or not, in the same way.
struct Group {
    /// The host's address; `None` where they are exposed only.
    address: Option<String>,
    protocol: String,
    first: u16,
    last: u16,
}

/// The ports in one line, in Docker's order: ranges that are complete, the last range of each address and protocol, then those
/// that are published under another number.
pub(super) fn joined(mut ports: Vec<PortSummary>) -> String {
    ports.sort_by_cached_key(|port| {
        let address = port.ip.clone().unwrap_or_default();
        (port.private_port, address, port.public_port, protocol(port))
    });
    let (mut complete, mut last, mut others) = (Vec::new(), Vec::<Group>::new(), Vec::new());
    for port in &ports {
        let group = Group::of(port);
        match (&group.address, port.public_port) {
            (Some(address), Some(public)) if public != port.private_port => {
                let place = with_port(address, &public.to_string());
                others.push(format!("{place}->{}/{}", port.private_port, group.protocol));
            }
            _ => match last.iter_mut().find(|other| other.is_like(&group)) {
                None => last.push(group),
                Some(other) if other.last.checked_add(1) == Some(group.first) => other.last = group.last,
                Some(other) => complete.push(std::mem::replace(other, group)),
            },
        }
    }
    let groups = complete.iter().chain(&last).map(Group::text);
    groups.chain(others).collect::<Vec<_>>().join(", ")
}

impl Group {
    /// The group of one port alone.
    fn of(port: &PortSummary) -> Group {
        Group {
            address: port.ip.clone().filter(|address| !address.is_empty()),
            protocol: protocol(port),
            first: port.private_port,
            last: port.private_port,
        }
    }

    fn is_like(&self, other: &Group) -> bool {
        (&self.address, &self.protocol) == (&other.address, &other.protocol)
    }

    fn text(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match &self.address {
            Some(address) => format!("{}->{ports}/{}", with_port(address, &ports), self.protocol),
            None => format!("{ports}/{}", self.protocol),
        }
    }
}

fn protocol(port: &PortSummary) -> String {
    port.typ.map_or_else(|| "tcp".to_owned(), |typ| typ.to_string())
}

/// An address with a port; one of IPv6 is in brackets.
pub(super) fn with_port(address: &str, port: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(ports: Value) -> String {
        joined(serde_json::from_value(ports).unwrap())
    }

    fn published(address: &str, public: u16, private: u16) -> Value {
        json!({"IP": address, "PublicPort": public, "PrivatePort": private, "Type": "tcp"})
    }

    #[test]
    fn a_published_port_is_shown_with_its_places() {
        let ports = json!([published("::", 8080, 80), published("0.0.0.0", 8080, 80)]);
        assert_eq!(shown(ports), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        assert_eq!(shown(json!([])), "");
    }

    #[test]
    fn ports_that_follow_each_other_are_ranges() {
        let exposed = |port: u16, protocol: &str| json!({"PrivatePort": port, "Type": protocol});
        let ports = json!([
            exposed(81, "tcp"),
            exposed(80, "tcp"),
            exposed(80, "udp"),
            exposed(90, "tcp"),
            exposed(65_535, "tcp"),
        ]);
        assert_eq!(shown(ports), "80-81/tcp, 90/tcp, 65535/tcp, 80/udp");
        let ports = json!([
            published("0.0.0.0", 80, 80),
            published("0.0.0.0", 81, 81),
            published("127.0.0.1", 9000, 82),
            exposed(443, "tcp"),
        ]);
        assert_eq!(
            shown(ports),
            "0.0.0.0:80-81->80-81/tcp, 443/tcp, 127.0.0.1:9000->82/tcp"
        );
    }
}
