//! Networks of containers on their host: which addresses they have, the bridges that join them, what may pass, the names they find
//! each other by, and the ports that lead to them.

mod conntrack;
pub mod dns;
mod egress;
mod firewall;
mod host;
mod links;
mod names;
mod pools;
mod ports;
mod protocol;
mod subnet;
mod tap;

pub use egress::{
    Destination, DestinationHost, EgressError, EgressPolicy, MAX_DESTINATIONS, NamePattern, NamePatternError,
    PartError, Service,
};
pub use firewall::{
    Egress, EgressRule, EndpointRules, Firewall, FirewallError, ForwardingError, NetworkRules, Publication,
    Ruleset, RulesetError, TAP_PREFIX, enable_forwarding,
};
pub use host::{HostEndpoint, HostError, HostNetwork, HostNetworks, HostSettings, Publish, Refusal, Refused};
pub use links::{Bridge, LinkError, Links, mac_of};
pub use pools::{Pools, PoolsError};
pub use ports::{Binding, Forward, Held, Limits, Listen, OuterHost, PortError, PortPool};
pub use protocol::{Protocol, ProtocolError};
pub use subnet::{Subnet, SubnetError, SubnetSpec};
pub use tap::{TapError, drain, open_tap};
