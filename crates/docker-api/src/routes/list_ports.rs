//! The filters of the list of containers that ask for ports.

use crate::error::ApiError;
use crate::filters::Filters;

use super::endpoints::read_port;

/// Ports that are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ports(Vec<Range>);

#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    protocol: String,
}

impl Ports {
    /// Reads the values of a filter: `80`, `80/tcp` or `80-90/udp`.
    pub(super) fn read(filters: &Filters, name: &str) -> Result<Self, ApiError> {
        let read = |text: &String| {
            read_range(text).ok_or_else(|| ApiError::bad_request(format!("invalid filter '{name}={text}'")))
        };
        let ranges = filters.values(name).iter().map(read);
        ranges.collect::<Result<_, _>>().map(Self)
    }

    /// Whether none is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of these, such as `80/tcp`, is among them.
    pub(super) fn any_of(&self, ports: impl IntoIterator<Item = impl AsRef<str>>) -> bool {
        let mut ports = ports.into_iter().filter_map(|port| read_port(port.as_ref()));
        ports.any(|(number, protocol)| {
            let has =
                |range: &Range| range.protocol == protocol && (range.first..=range.last).contains(&number);
            self.0.iter().any(has)
        })
    }
}

fn read_range(text: &str) -> Option<Range> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let range = Range {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
        protocol: protocol.to_owned(),
    };
    (range.first <= range.last).then_some(range)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ports(texts: &[&str]) -> Result<Ports, ApiError> {
        Ports::read(
            &Filters::parse(&json!({ "expose": texts }).to_string()).unwrap(),
            "expose",
        )
    }

    #[test]
    fn ports_are_asked_for_by_number_and_range() {
        let wanted = ports(&["80", "7000-7002/udp"]).unwrap();
        for (port, expected) in [
            ("80/tcp", true),
            ("80", true),
            ("80/udp", false),
            ("7001/udp", true),
            ("7003/udp", false),
        ] {
            assert_eq!(wanted.any_of([port]), expected, "{port}");
        }
        assert!(!wanted.is_empty() && ports(&[]).unwrap().is_empty());
        for nonsense in ["", "x", "90-80", "70000"] {
            let message = format!("invalid filter 'expose={nonsense}'");
            assert_eq!(ports(&[nonsense]).unwrap_err().message(), message);
        }
    }
}
