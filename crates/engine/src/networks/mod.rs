//! Networks: which there are, and which containers are in them.
//!
//! A network is a record on disk. What it takes on the host, a bridge and rules, is there for as long as a container that runs is in
//! it, and is the business of [`network::HostNetworks`].

mod api;
mod attach;
mod create;
mod egress;
mod endpoint;
mod mode;
mod ports;
mod record;
mod restore;
mod spare;
mod store;

pub(crate) use attach::{Attached, Cable, attach, detach, plug_meanwhile, renamed, tell};
pub(crate) use egress::{begin as begin_telling_refusals, check as check_egress};
pub(crate) use mode::{nics, normalize};
pub(crate) use restore::{adopt, begin};
pub(crate) use store::Networks;

pub use api::ContainerNetwork;
pub use endpoint::{Endpoint, EndpointConfig, MacAddress};
pub use ports::{ContainerPort, PortBinding, PublishedPort};
pub use record::{NetworkDriver, SubnetConfig};

use std::collections::BTreeMap;

use jiff::Timestamp;

/// The network that a container is in whose creator names none.
pub const DEFAULT_NETWORK: &str = "bridge";
/// The network without anything in it but the container's own loopback.
pub const NO_NETWORK: &str = "none";

/// A network to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// The driver's name; empty is `bridge`, which is the only one that more networks can be made with.
    pub driver: String,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether it has IPv4 addresses.
    pub ipv4: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Kept for inspection: whether a service of a swarm may be attached by hand.
    pub attachable: bool,
    /// Its addresses; of a family that has none, a subnet is chosen.
    pub subnets: Vec<SubnetConfig>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A network at the moment it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made; `None` for those that every hull has.
    pub created: Option<Timestamp>,
    /// What makes it.
    pub driver: NetworkDriver,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether it has IPv4 addresses.
    pub ipv4: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Kept for inspection.
    pub attachable: bool,
    /// Its addresses.
    pub subnets: Vec<SubnetConfig>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether every hull has it.
    pub predefined: bool,
    /// The containers that run in it: id, name, and their place.
    pub members: Vec<Member>,
    /// How many containers are to be in it, whether they run or not.
    pub users: usize,
}

/// A container that runs in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The container's id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Its place; `None` in the network that has none.
    pub endpoint: Option<Endpoint>,
}
