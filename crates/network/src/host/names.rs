//! The names of containers.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::HostEndpoint;
use super::refusals::{Refusals, Refused};
use super::rules::Rules;
use super::state::State;
use crate::dns::{Forward, Names, Pinned, RecordType, host_servers};

/// The name of the host for containers.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// Where the host's own name servers are written down.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Answers what the endpoints say.
pub(super) struct Directory {
    rules: Arc<Rules>,
    refusals: Arc<Refusals>,
}

impl Directory {
    pub(super) fn new(rules: Arc<Rules>, refusals: Arc<Refusals>) -> Self {
        Self { rules, refusals }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.rules.state()
    }
}

impl State {
    /// The endpoints of a container.
    fn endpoints_of(&self, container: &str) -> impl Iterator<Item = &HostEndpoint> {
        self.endpoints()
            .filter(move |endpoint| endpoint.container == container)
    }

    /// The endpoints that share a network with a container, its own among them.
    fn neighbours(&self, container: &str) -> impl Iterator<Item = &HostEndpoint> {
        self.endpoints_of(container).flat_map(|own| {
            self.endpoints()
                .filter(move |other| other.network.bridge.name == own.network.bridge.name)
        })
    }

    /// The addresses that a container finds by a name, if it is the name of a container.
    fn addresses(&self, container: &str, name: &str) -> Option<Vec<IpAddr>> {
        let linked: Vec<&str> = self
            .endpoints_of(container)
            .flat_map(|own| &own.links)
            .filter(|(alias, _)| alias.eq_ignore_ascii_case(name))
            .map(|(_, id)| id.as_str())
            .collect();
        let is_meant = |other: &HostEndpoint| {
            let is_named = || other.names.iter().any(|own| own.eq_ignore_ascii_case(name));
            linked.contains(&other.container.as_str()) || is_named()
        };
        let found: Vec<_> = self
            .neighbours(container)
            .filter(|other| is_meant(other))
            .flat_map(|other| other.addresses.iter().copied())
            .collect();
        // A link to a container that does not run is nobody else's name.
        (!found.is_empty() || !linked.is_empty()).then_some(found)
    }

    /// The host's addresses in the networks of a container that lead to it.
    fn gateways(&self, container: &str) -> Vec<IpAddr> {
        let leading = self
            .endpoints_of(container)
            .filter(|endpoint| !endpoint.network.internal);
        leading
            .take(1)
            .flat_map(|endpoint| &endpoint.network.bridge.addresses)
            .map(|net| net.addr())
            .collect()
    }
}

impl Names for Directory {
    fn client(&self, address: IpAddr) -> Option<String> {
        let state = self.state();
        let mut endpoints = state.endpoints();
        let client = endpoints.find(|endpoint| endpoint.addresses.contains(&address))?;
        Some(client.container.clone())
    }

    fn addresses(&self, client: &str, name: &str) -> Option<Vec<IpAddr>> {
        let state = self.state();
        if HOST_NAMES.contains(&name) {
            return Some(state.gateways(client));
        }
        state.addresses(client, name)
    }

    fn name(&self, client: &str, address: IpAddr) -> Option<String> {
        let state = self.state();
        let mut neighbours = state.neighbours(client);
        let found = neighbours.find(|other| other.addresses.contains(&address))?;
        found.names.first().cloned()
    }

    fn forward(&self, client: &str, name: &str, _kind: RecordType) -> Forward {
        let state = self.state();
        if !state.leads_out(client) {
            return Forward::NoSuchName;
        }
        if !state.may_ask(client, name) {
            drop(state);
            self.refusals.add(client, Refused::Name(name.to_owned()));
            // Who is refused asks again, and others, and calls it a failure that will pass.
            return Forward::NoSuchName;
        }
        let asked: Option<Vec<SocketAddr>> = state
            .endpoints_of(client)
            .map(|endpoint| endpoint.servers.clone())
            .find(|servers| !servers.is_empty());
        drop(state);
        Forward::To(asked.unwrap_or_else(|| {
            // Read for each question: the host may have moved to another network since.
            host_servers(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
        }))
    }

    fn pin<'a>(
        &'a self,
        client: &'a str,
        name: &'a str,
        addresses: Vec<IpAddr>,
        ttl: Duration,
    ) -> Pinned<'a> {
        Box::pin(self.rules.open(client, name, addresses, ttl))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::HostNetwork;
    use super::*;
    use crate::{Bridge, Links, Refusal};

    fn network(bridge: &str, gateway: &str, internal: bool) -> Arc<HostNetwork> {
        let gateway: ipnet::IpNet = gateway.parse().unwrap();
        Arc::new(HostNetwork {
            bridge: Bridge {
                name: bridge.into(),
                addresses: vec![gateway],
                mtu: 1500,
            },
            subnets: vec![gateway.trunc()],
            internal,
            inter_container: true,
            masquerade: true,
        })
    }

    fn endpoint(container: &str, network: &Arc<HostNetwork>, address: &str, names: &[&str]) -> HostEndpoint {
        HostEndpoint {
            container: container.into(),
            network: Arc::clone(network),
            tap: format!("hullt{container}{}", network.bridge.name),
            queues: 1,
            mac: [2; 6],
            addresses: vec![address.parse().unwrap()],
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            links: Vec::new(),
            servers: Vec::new(),
            egress: Vec::new(),
        }
    }

    fn directory(endpoints: Vec<HostEndpoint>) -> (Directory, mpsc::Receiver<Refusal>) {
        let rules = Rules::new(Links::open().unwrap(), Vec::new());
        rules.change(|state| endpoints.into_iter().for_each(|endpoint| state.insert(endpoint)));
        let (sender, refusals) = mpsc::channel(10);
        (
            Directory::new(Arc::new(rules), Arc::new(Refusals::new(sender))),
            refusals,
        )
    }

    #[tokio::test]
    async fn names_are_those_of_the_networks_that_both_are_in() {
        let (front, back) = (
            network("hullbf", "10.0.0.1/24", false),
            network("hullbb", "10.0.1.1/24", true),
        );
        let (names, _) = directory(vec![
            endpoint("web", &front, "10.0.0.2", &["web", "www"]),
            endpoint("web", &back, "10.0.1.2", &["web"]),
            endpoint("db", &back, "10.0.1.3", &["db", "data"]),
            endpoint("db2", &back, "10.0.1.4", &["db2", "data"]),
            endpoint("other", &front, "10.0.0.9", &["other"]),
        ]);
        assert_eq!(names.client("10.0.1.2".parse().unwrap()), Some("web".into()));
        assert_eq!(names.client("10.0.1.77".parse().unwrap()), None);
        let found = |client: &str, name: &str| {
            let found = names.addresses(client, name);
            let mut found = found?.iter().map(IpAddr::to_string).collect::<Vec<_>>();
            found.sort();
            Some(found)
        };
        assert_eq!(found("web", "data").unwrap(), ["10.0.1.3", "10.0.1.4"]);
        assert_eq!(found("other", "WWW").unwrap(), ["10.0.0.2"]);
        assert_eq!(found("other", "data"), None);
        assert_eq!(found("db", "www"), None);
        assert_eq!(found("web", "host.docker.internal").unwrap(), ["10.0.0.1"]);
        assert!(found("db", "host.docker.internal").unwrap().is_empty());
        assert_eq!(names.name("web", "10.0.1.4".parse().unwrap()), Some("db2".into()));
        assert_eq!(names.name("other", "10.0.1.4".parse().unwrap()), None);
        assert_eq!(
            names.forward("db", "example.org", RecordType::A),
            Forward::NoSuchName
        );
        assert!(matches!(
            names.forward("web", "example.org", RecordType::A),
            Forward::To(_)
        ));
    }

    #[tokio::test]
    async fn who_is_linked_is_found_also_where_nobody_has_a_name() {
        let default = network("hull0", "172.17.0.1/16", false);
        let mut web = endpoint("web", &default, "172.17.0.2", &[]);
        web.links = vec![("database".into(), "db".into()), ("gone".into(), "nobody".into())];
        let (names, _) = directory(vec![web, endpoint("db", &default, "172.17.0.3", &[])]);
        let found = names.addresses("web", "database").unwrap();
        assert_eq!(found, ["172.17.0.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(names.addresses("web", "gone"), Some(Vec::new()));
        assert_eq!(names.addresses("db", "web"), None);
        assert_eq!(names.addresses("web", "db"), None);
    }

    #[tokio::test]
    async fn only_names_of_a_policy_are_asked_for_outside() {
        let network = network("hullbf", "10.0.0.1/24", false);
        let mut web = endpoint("web", &network, "10.0.0.2", &["web"]);
        web.egress = vec!["*.b".parse().unwrap(), "a.b,c.b,10.0.0.0/8".parse().unwrap()];
        let db = endpoint("db", &network, "10.0.0.3", &["db"]);
        let (names, mut refusals) = directory(vec![web, db]);
        let asks = |client, name| names.forward(client, name, RecordType::A) != Forward::NoSuchName;
        assert!(asks("web", "a.b") && asks("web", "c.b") && asks("db", "b"));
        assert!(refusals.try_recv().is_err());
        for name in ["b", "d.b", "x.a.b", "1.0.0.10.in-addr.arpa"] {
            assert!(!asks("web", name), "{name}");
            let refusal = refusals.try_recv().unwrap();
            assert_eq!((refusal.container.as_str(), refusal.left_out), ("web", 0));
            assert_eq!(refusal.refused, Refused::Name(name.to_owned()));
        }
        assert!(names.addresses("web", "db").is_some());
    }
}
