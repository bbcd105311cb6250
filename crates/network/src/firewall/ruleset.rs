//! What the firewall is to say, in the words of networks and containers.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::Protocol;

/// What the names of interfaces of containers begin with: such an interface is bound to an endpoint, or mute.
pub const TAP_PREFIX: &str = "hullt";

/// Everything that hull's tables say. What is applied replaces what they said before, in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The networks.
    pub networks: Vec<NetworkRules>,
    /// The interfaces of containers.
    pub endpoints: Vec<EndpointRules>,
    /// The published ports.
    pub publications: Vec<Publication>,
    /// Destinations that no container reaches, for instance the host's loopback behind a helper VM's gateway.
    pub forbidden: Vec<IpNet>,
    /// Whether nobody is told of packets that are refused. To tell takes nfnetlink_log in the kernel.
    pub silent: bool,
}

/// A network, which is a bridge. Nothing passes from one network to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRules {
    /// The interface. Its name does not begin with `hullt`.
    pub bridge: String,
    /// The addresses of the containers; no other network has any of them.
    pub subnets: Vec<IpNet>,
    /// The host's addresses on it.
    pub gateways: Vec<IpAddr>,
    /// Whether nothing passes beyond the bridge. Of the host itself only DNS and ping at the gateways are there, and ports of its
    /// containers are not published.
    pub internal: bool,
    /// Whether its containers reach each other.
    pub inter_container: bool,
    /// Whether what leaves the host comes from the host's address.
    pub masquerade: bool,
}

/// A container's interface on a network. Nothing passes that does not come from its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRules {
    /// The interface, whose name begins with `hullt`.
    pub tap: String,
    /// The bridge of its network.
    pub bridge: String,
    /// The container's hardware address.
    pub mac: [u8; 6],
    /// The container's addresses, within the subnets of its network. The link-local IPv6 address that is made of `mac` (RFC 4291,
    /// appendix A) is its own, too.
    pub addresses: Vec<IpAddr>,
    /// What it reaches beyond its network.
    pub egress: Egress,
}

/// What a container reaches beyond its own network; other containers there, and DNS and ping at the gateways, are not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Everything.
    All,
    /// What at least one of the rules allows. This counts for the host's own services, too.
    Only(Vec<EgressRule>),
}

/// Something that a container may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    /// Where.
    pub destination: IpNet,
    /// By which protocol; by any, unless it is said: with `ports`, by any that has ports.
    pub protocol: Option<Protocol>,
    /// At which ports; at any, unless they are said.
    pub ports: Option<RangeInclusive<u16>>,
}

/// A published port: what reaches the host there goes to a container.
///
/// What the host sends to its own loopback addresses does not: that takes a proxy. With `br_netfilter` and
/// `net.bridge.bridge-nf-call-iptables=1` (as Docker and Kubernetes set it), a container does not reach *itself* in this way, for
/// a bridge sends no frame back to the port it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Of what the port is one.
    pub protocol: Protocol,
    /// The host's address; unless it is said, or if it is the unspecified one, all of the target's family.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's address and port.
    pub target: SocketAddr,
    /// The bridge of the container's network.
    pub bridge: String,
}

impl Publication {
    /// The one address of the host that it is at.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.filter(|host| !host.is_unspecified())
    }
}

impl EndpointRules {
    /// The link-local address that is made of the hardware address (RFC 4291, appendix A).
    pub(super) fn link_local(&self) -> IpAddr {
        let [a, b, c, d, e, f] = self.mac;
        let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        IpAddr::from((0xfe80_u128 << 112 | u128::from(identifier)).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_local_address_is_made_of_the_hardware_address() {
        let endpoint = EndpointRules {
            tap: "hullt0".into(),
            bridge: "hull0".into(),
            mac: [0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde],
            addresses: vec![],
            egress: Egress::All,
        };
        assert_eq!(endpoint.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
    }
}
