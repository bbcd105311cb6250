//! The place of a container in a network.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::EngineError;

/// An Ethernet address; as text `02:42:ac:11:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let refusal = || EngineError::Invalid(format!("invalid MAC address: {text}"));
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refusal)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| refusal())?;
        }
        // Nobody can have the address of a group.
        if parts.next().is_some() || octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(refusal());
        }
        Ok(MacAddress(octets))
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = EngineError;

    fn try_from(text: String) -> Result<Self, EngineError> {
        text.parse()
    }
}

/// What is asked of a container's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConfig {
    /// Further names that others in the network find it by.
    pub aliases: Vec<String>,
    /// Other containers that it finds, as `NAME` or `NAME:ALIAS`.
    pub links: Vec<String>,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its Ethernet address.
    pub mac: Option<MacAddress>,
    /// The network with the highest one has the default route.
    pub gateway_priority: i64,
    /// Options of the driver. Kept for inspection; there are none that mean something.
    pub driver_options: BTreeMap<String, String>,
}

/// The place of a container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network's id.
    pub network: String,
    /// Which of its microVM's network devices it has.
    pub nic: u8,
    /// The name of the interface in the container.
    pub interface: String,
    /// The name of the host's end.
    pub tap: String,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its addresses with the length of the subnet's prefix, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// The host's addresses in the network.
    pub gateways: Vec<IpAddr>,
}

impl Endpoint {
    /// Its IPv4 address.
    pub fn ipv4(&self) -> Option<IpNet> {
        self.addresses.iter().copied().find(|net| net.addr().is_ipv4())
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Option<IpNet> {
        self.addresses.iter().copied().find(|net| net.addr().is_ipv6())
    }

    /// The network's IPv4 gateway.
    pub fn gateway4(&self) -> Option<IpAddr> {
        self.gateways.iter().copied().find(IpAddr::is_ipv4)
    }

    /// The network's IPv6 gateway.
    pub fn gateway6(&self) -> Option<IpAddr> {
        self.gateways.iter().copied().find(IpAddr::is_ipv6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read_and_written() {
        let address: MacAddress = "02:42:AC-11-00:0f".parse().unwrap();
        assert_eq!(address.to_string(), "02:42:ac:11:00:0f");
        assert_eq!(
            MacAddress(network::mac_of("172.17.0.2".parse().unwrap())).to_string(),
            "02:42:ac:11:00:02"
        );
        for wrong in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:42:ac:11:0:2",
            "02:42:ac:11:00:zz",
        ] {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }
}
