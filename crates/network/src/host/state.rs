//! Which endpoints there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use super::doors::{Doors, Told};
use super::{HostEndpoint, HostError, HostNetwork, Opened};
use crate::egress::is_public;
use crate::{EndpointRules, Listen, NetworkRules, Publication, Ruleset};

/// For how long an address is open at least that a name stands for: clients keep what they know for a while, whatever it says.
const LEAST_TIME: Duration = Duration::from_secs(60);

/// For how long it is open longer than the answer may be kept: who connects at the last moment still can.
const GRACE: Duration = Duration::from_secs(15);

/// For how long it is open at most (RFC 8767, section 4, on how long anything may be kept).
const MOST_TIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The endpoints of a host.
#[derive(Default)]
pub(super) struct State {
    endpoints: BTreeMap<String, Entry>,
}

struct Entry {
    endpoint: HostEndpoint,
    ports: Vec<Opened>,
    doors: Doors,
}

/// What a server outside says of a name that a container asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) name: &'a str,
    pub(super) addresses: &'a [IpAddr],
    /// For how long it may be kept.
    pub(super) ttl: Duration,
}

impl Answer<'_> {
    fn end(&self) -> Instant {
        Instant::now() + self.ttl.clamp(LEAST_TIME, MOST_TIME) + GRACE
    }
}

impl State {
    pub(super) fn insert(&mut self, endpoint: HostEndpoint) {
        let entry = Entry {
            ports: Vec::new(),
            doors: Doors::new(&endpoint.egress),
            endpoint,
        };
        self.endpoints.insert(entry.endpoint.tap.clone(), entry);
    }

    /// The same, unless somebody on the bridge has its hardware address, which its rules could not tell apart.
    pub(super) fn insert_if_possible(&mut self, endpoint: &HostEndpoint) -> Result<(), HostError> {
        let bridge = &endpoint.network.bridge;
        let is_other = |other: &HostEndpoint| {
            other.network.bridge.name == bridge.name && other.tap != endpoint.tap && other.mac == endpoint.mac
        };
        if bridge.mac() == endpoint.mac || self.endpoints().any(is_other) {
            let mac = endpoint.mac.map(|byte| format!("{byte:02x}")).join(":");
            return Err(HostError::MacInUse { mac });
        }
        self.insert(endpoint.clone());
        Ok(())
    }

    /// Puts an endpoint in the place of one with the same interface and addresses; says whether the rules are the same, too. Its
    /// ports stay.
    pub(super) fn assign(&mut self, endpoint: HostEndpoint) -> bool {
        let Some(entry) = self.endpoints.get_mut(&endpoint.tap) else {
            return true;
        };
        let same = entry.endpoint.egress == endpoint.egress;
        if !same {
            entry.doors = Doors::new(&endpoint.egress);
        }
        entry.endpoint = endpoint;
        same
    }

    pub(super) fn remove(&mut self, tap: &str) -> Option<HostEndpoint> {
        self.endpoints.remove(tap).map(|entry| entry.endpoint)
    }

    pub(super) fn endpoint(&self, tap: &str) -> Option<HostEndpoint> {
        self.endpoints.get(tap).map(|entry| entry.endpoint.clone())
    }

    /// All endpoints.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &HostEndpoint> {
        self.endpoints.values().map(|entry| &entry.endpoint)
    }

    /// Keeps a port open for as long as its endpoint is there.
    pub(super) fn publish(&mut self, tap: &str, opened: Opened) {
        if let Some(entry) = self.endpoints.get_mut(tap) {
            entry.ports.push(opened);
        }
    }

    /// Whether an endpoint has a port of the host already.
    pub(super) fn is_published(&self, wanted: &Listen) -> bool {
        let meets = |listen: &Listen| {
            let same_address = listen.address == wanted.address
                || listen.address.is_ipv4() == wanted.address.is_ipv4()
                    && (listen.address.is_unspecified() || wanted.address.is_unspecified());
            listen.protocol == wanted.protocol && listen.port == wanted.port && same_address
        };
        let ports = self.endpoints.values().flat_map(|entry| &entry.ports);
        ports
            .flat_map(|opened| &opened.ports)
            .any(|(listen, _)| meets(listen))
    }

    /// Whether an endpoint is on this bridge.
    pub(super) fn uses(&self, bridge: &str) -> bool {
        self.endpoints()
            .any(|endpoint| endpoint.network.bridge.name == bridge)
    }

    /// A container's endpoints that lead out of their networks.
    fn leading(&self, container: &str) -> impl Iterator<Item = &Entry> {
        let own = self.endpoints.values();
        own.filter(move |entry| entry.endpoint.container == container && !entry.endpoint.network.internal)
    }

    /// Whether a container has a way out.
    pub(super) fn leads_out(&self, container: &str) -> bool {
        self.leading(container).next().is_some()
    }

    /// Whether a container may know about a name: one of its ways out is for it.
    pub(super) fn may_ask(&self, container: &str, name: &str) -> bool {
        self.leading(container)
            .any(|entry| entry.doors.services(name).is_some())
    }

    /// Whether a policy says where a container may go.
    pub(super) fn is_restricted(&self, container: &str) -> bool {
        self.leading(container).any(|entry| !entry.doors.are_open())
    }

    /// Opens the addresses in an answer to a container, where its policies allow the name. Addresses that are not public, in a
    /// network of hull or `near` are no places that a name outside may stand for, and those that are forbidden are nobody's.
    pub(super) fn open(
        &mut self,
        container: &str,
        answer: &Answer<'_>,
        forbidden: &[IpNet],
        near: impl Fn(IpAddr) -> bool,
    ) -> Told {
        let networks = self.endpoints().flat_map(|endpoint| &endpoint.network.subnets);
        let subnets: BTreeSet<IpNet> = networks.copied().collect();
        let near = |address: IpAddr| {
            !is_public(address) || near(address) || subnets.iter().any(|subnet| subnet.contains(&address))
        };
        let allowed = answer.addresses.iter().copied();
        let allowed: Vec<_> = allowed
            .filter(|address| !forbidden.iter().any(|net| net.contains(address)))
            .collect();
        let own = self.endpoints.values_mut();
        let leading =
            own.filter(|entry| entry.endpoint.container == container && !entry.endpoint.network.internal);
        let mut told = Told::default();
        for entry in leading {
            let Some(services) = entry.doors.services(answer.name) else {
                continue;
            };
            if entry.doors.are_open() {
                told.addresses.extend(answer.addresses);
                continue;
            }
            let opened = entry.doors.open(&services, &allowed, answer.end(), near);
            told.addresses.extend(opened.addresses);
            told.changed |= opened.changed;
        }
        told
    }

    /// When something closes next that was open for a time.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let entries = self.endpoints.values();
        entries.filter_map(|entry| entry.doors.next_end()).min()
    }

    /// Closes what was open for a time that is over. Says whether there was any.
    pub(super) fn prune(&mut self, now: Instant) -> bool {
        let mut closed = false;
        for entry in self.endpoints.values_mut() {
            closed |= entry.doors.prune(now);
        }
        closed
    }

    /// What the host's rules are to say.
    pub(super) fn ruleset(&self, forbidden: &[IpNet]) -> Ruleset {
        let mut networks = BTreeMap::new();
        for endpoint in self.endpoints() {
            networks
                .entry(&endpoint.network.bridge.name)
                .or_insert_with(|| network_rules(&endpoint.network));
        }
        Ruleset {
            networks: networks.into_values().collect(),
            endpoints: self.endpoints.values().map(endpoint_rules).collect(),
            publications: self.endpoints.values().flat_map(publications).collect(),
            forbidden: forbidden.to_vec(),
            silent: false,
        }
    }
}

fn network_rules(network: &HostNetwork) -> NetworkRules {
    NetworkRules {
        bridge: network.bridge.name.clone(),
        subnets: network.subnets.clone(),
        gateways: network.bridge.addresses.iter().map(IpNet::addr).collect(),
        internal: network.internal,
        inter_container: network.inter_container,
        masquerade: network.masquerade,
    }
}

fn endpoint_rules(entry: &Entry) -> EndpointRules {
    let endpoint = &entry.endpoint;
    EndpointRules {
        tap: endpoint.tap.clone(),
        bridge: endpoint.network.bridge.name.clone(),
        mac: endpoint.mac,
        addresses: endpoint.addresses.clone(),
        egress: entry.doors.egress(),
    }
}

/// The ports that the kernel can translate: those that lead to an address of their own family, and not from the host's loopback.
fn publications(entry: &Entry) -> Vec<Publication> {
    let ports = entry.ports.iter().flat_map(|opened| &opened.ports);
    let translated = ports.filter(|(listen, target)| {
        listen.address.is_ipv4() == target.ip().is_ipv4() && !listen.address.is_loopback()
    });
    let publication = |(listen, target): &(Listen, std::net::SocketAddr)| Publication {
        protocol: listen.protocol,
        host: Some(listen.address).filter(|address: &IpAddr| !address.is_unspecified()),
        host_port: listen.port,
        target: *target,
        bridge: entry.endpoint.network.bridge.name.clone(),
    };
    translated.map(publication).collect()
}
