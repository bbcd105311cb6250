//! What a port belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A transport protocol whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// There is no such protocol here, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid proto: {name}: it has to be tcp or udp")]
pub struct ProtocolError {
    /// What was asked for.
    pub name: String,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ProtocolError;

    /// Upper case is taken, as Docker takes it.
    fn from_str(name: &str) -> Result<Self, ProtocolError> {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(ProtocolError {
                name: name.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_one_name_everywhere() {
        for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
            assert_eq!(protocol.to_string(), name);
            assert_eq!(name.parse(), Ok(protocol));
            assert_eq!(name.to_uppercase().parse(), Ok(protocol));
            assert_eq!(serde_json::to_value(protocol).unwrap(), name);
            assert_eq!(serde_json::from_value::<Protocol>(name.into()).unwrap(), protocol);
        }
        let error = "sctp".parse::<Protocol>().unwrap_err().to_string();
        assert_eq!(error, "invalid proto: sctp: it has to be tcp or udp");
    }
}
