//! What the host does for networks of containers: bridges, rules, names and ports, for as long as a container runs in them.
//!
//! Everything is derived from which endpoints there are. So it can be made again after a restart of the daemon, and is gone when
//! the last endpoint is.

mod doors;
mod left;
mod names;
mod nflog;
mod packet;
mod pins;
mod refusals;
mod rules;
mod state;
mod watch;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::dns::{DNS_PORT, DnsError, DnsServer, Listening};
use crate::{
    Bridge, EgressPolicy, FirewallError, Forward, ForwardingError, Held, LinkError, Links, Listen, OuterHost,
    PortError, PortPool, Protocol, TapError, enable_forwarding, open_tap,
};
use left::Left;
use names::Directory;
use refusals::Refusals;
pub use refusals::{Refusal, Refused};
use rules::Rules;
use state::State;
use watch::Watch;

/// What the names of hull's interfaces begin with.
const PREFIX: &str = "hull";

/// How long rules of interfaces that are gone may stay.
const TOGETHER: Duration = Duration::from_millis(500);

/// What holds for all networks of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// Destinations that no container reaches.
    pub forbidden: Vec<IpNet>,
    /// Where ports of the host are asked for that this host is a virtual machine of.
    pub outer_host: Option<PathBuf>,
}

/// The host's part of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNetwork {
    /// Its bridge.
    pub bridge: Bridge,
    /// All its addresses.
    pub subnets: Vec<IpNet>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether its containers may speak to each other.
    pub inter_container: bool,
    /// Whether they have the host's address for everybody outside.
    pub masquerade: bool,
}

/// The host's part of a container's place in a network.
#[derive(Clone, Debug)]
pub struct HostEndpoint {
    /// The container's id.
    pub container: String,
    /// The network.
    pub network: Arc<HostNetwork>,
    /// The name of the host's end.
    pub tap: String,
    /// How many queues it has.
    pub queues: u16,
    /// The container's Ethernet address.
    pub mac: [u8; 6],
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// What others in the network find it by; nothing where nobody is to find anybody.
    pub names: Vec<String>,
    /// Further names that it finds others by: the name, and the container's id.
    pub links: Vec<(String, String)>,
    /// The name servers that its questions are handed on to; none are the host's own.
    pub servers: Vec<SocketAddr>,
    /// Where it may go beyond its networks: where all of these let it. None lets it go everywhere.
    pub egress: Vec<EgressPolicy>,
}

/// A port of a container to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's addresses; the unspecified one is all of its family.
    pub addresses: Vec<IpAddr>,
    /// The host's ports of which the first free one is taken; `None` is any.
    pub ports: Option<RangeInclusive<u16>>,
    /// The container's port.
    pub container_port: u16,
}

/// The host would not do something for a network.
#[derive(Debug, Error)]
pub enum HostError {
    /// With an interface.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// With the host's end of a container's interface.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// With being a router.
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    /// With its rules.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// With its name server.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// With a port, in Docker's words.
    #[error("driver failed programming external connectivity on endpoint: {0}")]
    Port(#[from] PortError),
    /// Another container of the network has the hardware address, or the network itself.
    #[error("MAC address {mac} is already in use in the network")]
    MacInUse {
        /// The address.
        mac: String,
    },
    /// Another container has the port.
    #[error(
        "driver failed programming external connectivity on endpoint: Bind for {address} failed: port is already allocated"
    )]
    Allocated {
        /// The host's address and port.
        address: SocketAddr,
    },
    /// Somebody else's connections may go on with the address.
    #[error(
        "address {address} cannot be given to a container: the kernel may remember connections of the one that had it, and cannot be \
         made to forget them, for which it needs nf_conntrack_netlink, built in or as a module that is installed: {source}"
    )]
    Remembered {
        /// The address.
        address: IpAddr,
        /// Why they are not forgotten.
        source: io::Error,
    },
    /// There is no such endpoint.
    #[error("there is no endpoint {tap}")]
    NoEndpoint {
        /// Its name.
        tap: String,
    },
}

/// The networks of a host.
pub struct HostNetworks {
    rules: Arc<Rules>,
    dns: DnsServer,
    settings: HostSettings,
    outer_host: Option<OuterHost>,
    pool: PortPool,
    /// The bridges that are there, with who answers questions on them. Held while one is made or removed.
    bridges: tokio::sync::Mutex<HashMap<String, Vec<Listening>>>,
    /// The addresses that are not to be had until their connections are forgotten.
    left: Left,
    /// Who hears of packets that are refused.
    watch: Watch,
    /// What closes what is open for a time.
    closing: JoinHandle<()>,
}

impl Drop for HostNetworks {
    fn drop(&mut self) {
        self.closing.abort();
    }
}

impl std::fmt::Debug for HostNetworks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostNetworks")
            .field("settings", &self.settings)
            .finish()
    }
}

impl HostNetworks {
    /// Begins with no networks; within a tokio runtime. What containers are refused by their egress policies is told to
    /// `listener`, as long as it has room.
    pub fn open(settings: HostSettings, listener: mpsc::Sender<Refusal>) -> Result<Self, HostError> {
        let rules = Arc::new(Rules::new(Links::open()?, settings.forbidden.clone()));
        let refusals = Arc::new(Refusals::new(listener));
        let directory = Directory::new(Arc::clone(&rules), Arc::clone(&refusals));
        Ok(Self {
            dns: DnsServer::new(Arc::new(directory)),
            watch: Watch::new(Arc::clone(&rules), refusals),
            closing: tokio::spawn(Arc::clone(&rules).close_in_time()),
            rules,
            outer_host: settings.outer_host.as_deref().map(OuterHost::new),
            settings,
            pool: PortPool::of_this_host(),
            bridges: tokio::sync::Mutex::default(),
            left: Left::default(),
        })
    }

    /// The subnets that the host has routes to.
    pub async fn subnets(&self) -> Result<Vec<IpNet>, HostError> {
        Ok(self.rules.links.subnets().await?)
    }

    /// Makes an endpoint, and its network's bridge if it is the first one; the queues of its TAP device. It is cut off until the
    /// rules [are settled](HostNetworks::settle), and gone with the last descriptor of a queue.
    pub async fn connect(self: &Arc<Self>, endpoint: HostEndpoint) -> Result<Vec<OwnedFd>, HostError> {
        let (tap, queues) = (endpoint.tap.clone(), endpoint.queues);
        let connected = async {
            self.insert(&endpoint).await?;
            let queues = open_tap(&tap, queues)?;
            self.join(&endpoint).await?;
            Ok(queues)
        };
        let connected = connected.await;
        if connected.is_err() {
            self.disconnect(&tap);
        }
        connected
    }

    async fn join(&self, endpoint: &HostEndpoint) -> Result<(), HostError> {
        let joined = self
            .rules
            .links
            .join(&endpoint.tap, &endpoint.network.bridge, endpoint.mac);
        Ok(joined.await?)
    }

    /// Gives an endpoint that was made for nobody to a container: only its names and policies are others now. Says whether the rules
    /// stay as they are.
    pub async fn assign(&self, endpoint: HostEndpoint) -> bool {
        if !endpoint.egress.is_empty() {
            self.watch.begin().await;
        }
        self.rules.assign(endpoint)
    }

    /// Takes over an endpoint whose TAP device is there. If that fails the device stays.
    pub async fn adopt(&self, endpoint: HostEndpoint) -> Result<(), HostError> {
        self.insert(&endpoint).await?;
        match self.join(&endpoint).await {
            // Its VMM is gone, which whoever runs it finds out.
            Err(HostError::Link(LinkError::Missing { .. })) => Ok(()),
            joined => joined,
        }
    }

    async fn insert(&self, endpoint: &HostEndpoint) -> Result<(), HostError> {
        if !endpoint.egress.is_empty() {
            self.watch.begin().await;
        }
        // First, so that nobody removes the bridge that is about to be used.
        self.change(|state| state.insert_if_possible(endpoint))?;
        self.forget_before(&endpoint.addresses).await?;
        self.make_bridge(&endpoint.network).await
    }

    async fn make_bridge(&self, network: &HostNetwork) -> Result<(), HostError> {
        let mut bridges = self.bridges.lock().await;
        if bridges.contains_key(&network.bridge.name) {
            return Ok(());
        }
        let has_v6 = network
            .subnets
            .iter()
            .any(|subnet| matches!(subnet, IpNet::V6(_)));
        enable_forwarding(has_v6).await?;
        let made = self.rules.links.make_bridge(&network.bridge).await?;
        let mut listening = Vec::new();
        for address in &network.bridge.addresses {
            let address = SocketAddr::new(address.addr(), DNS_PORT);
            match self.dns.listen(address).await {
                Ok(answers) => listening.push(answers),
                Err(error) => {
                    drop(listening);
                    if made {
                        // The first error says more.
                        let _ = self.rules.links.remove(&network.bridge.name).await;
                    }
                    return Err(error.into());
                }
            }
        }
        bridges.insert(network.bridge.name.clone(), listening);
        Ok(())
    }

    /// Publishes a port of an endpoint; answers where.
    pub async fn publish(&self, tap: &str, publish: Publish) -> Result<Vec<Listen>, HostError> {
        let endpoint = self
            .state()
            .endpoint(tap)
            .ok_or_else(|| HostError::NoEndpoint { tap: tap.to_owned() })?;
        if let Some(address) = self.allocated(&publish) {
            return Err(HostError::Allocated { address });
        }
        let open = |port| self.open_port(&endpoint, &publish, port);
        let (listens, opened) = self.pool.find(publish.ports.clone(), open).await?;
        self.change(|state| state.publish(tap, opened));
        Ok(listens)
    }

    /// The address and port that somebody wants who takes no other, and that a container has already.
    fn allocated(&self, publish: &Publish) -> Option<SocketAddr> {
        let port = publish
            .ports
            .as_ref()
            .filter(|ports| ports.start() == ports.end())?;
        let listens = publish.addresses.iter().map(|address| Listen {
            protocol: publish.protocol,
            address: *address,
            port: *port.start(),
        });
        let state = self.state();
        let mut taken = listens.filter(|listen| state.is_published(listen));
        taken.next().map(|listen| listen.socket_address())
    }

    async fn open_port(
        &self,
        endpoint: &HostEndpoint,
        publish: &Publish,
        port: u16,
    ) -> Result<(Vec<Listen>, Opened), PortError> {
        let mut opened = Opened::default();
        let mut listens = Vec::new();
        for address in &publish.addresses {
            let listen = Listen {
                protocol: publish.protocol,
                address: *address,
                port,
            };
            let Some(target) = target(endpoint, *address) else {
                continue;
            };
            let target = SocketAddr::new(target, publish.container_port);
            match self.open_socket(&listen, target, &mut opened).await {
                Ok(()) => {}
                // A host without IPv6 publishes on what it has.
                Err(PortError::NoSuchAddress { .. } | PortError::OuterNoAddress(_))
                    if *address == Ipv6Addr::UNSPECIFIED =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            }
            opened.ports.push((listen, target));
            listens.push(listen);
        }
        Ok((listens, opened))
    }

    async fn open_socket(
        &self,
        listen: &Listen,
        target: SocketAddr,
        opened: &mut Opened,
    ) -> Result<(), PortError> {
        if let Some(outer) = &self.outer_host {
            opened.held.push(outer.hold(listen).await?);
        }
        let forward = Forward::open(&inner(listen, self.outer_host.is_some()), target).await?;
        opened.forwards.push(forward);
        Ok(())
    }

    /// Has nobody go on with the connections of addresses that nobody has any more, which takes a while. False: they may.
    pub async fn forget(&self, addresses: &[IpAddr]) -> bool {
        self.left.leave(addresses);
        tokio::time::sleep(TOGETHER).await;
        self.forget_left().await
    }

    async fn forget_left(&self) -> bool {
        match self.left.forget().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "connections of containers that are gone are remembered; it takes nf_conntrack_netlink to forget them, which is tried again before others get their addresses");
                false
            }
        }
    }

    /// Refuses addresses whose connections are not forgotten, which is tried once more.
    async fn forget_before(&self, addresses: &[IpAddr]) -> Result<(), HostError> {
        let Some(address) = self.left.find(addresses) else {
            return Ok(());
        };
        let forgotten = self.left.forget().await;
        forgotten.map_err(|source| HostError::Remembered { address, source })
    }

    /// Removes an endpoint: its ports are free and its names are gone at once, what it takes of the kernel soon after, with its
    /// network's bridge if it is the last one. One that is not there needs no removal.
    pub fn disconnect(self: &Arc<Self>, tap: &str) {
        let removed = self.change(|state| {
            let endpoint = state.remove(tap)?;
            // Before anybody can have its addresses.
            self.left.leave(&endpoint.addresses);
            Some(endpoint)
        });
        let Some(endpoint) = removed else {
            return;
        };
        let host = Arc::clone(self);
        tokio::spawn(async move { host.clean_up(&endpoint).await });
    }

    async fn clean_up(&self, endpoint: &HostEndpoint) {
        let tap = &endpoint.tap;
        // It is gone with its VMM, unless that goes on without it.
        if let Err(error) = self.rules.links.remove(tap).await {
            tracing::warn!(tap, %error, "the host's end of an interface stays");
        }
        self.remove_bridge(&endpoint.network.bridge.name).await;
        // The rules are about an interface that is not there any more: they hurt nobody, and others may go together with them.
        tokio::time::sleep(TOGETHER).await;
        self.forget_left().await;
        if let Err(error) = self.settle().await {
            tracing::warn!(tap, %error, "rules of a container that is gone stay");
        }
    }

    /// Removes the bridges that nobody uses, and makes the rules those of who is left; for a daemon that ends.
    pub async fn close(&self) {
        let bridges: Vec<String> = self.bridges.lock().await.keys().cloned().collect();
        for bridge in bridges {
            self.remove_bridge(&bridge).await;
        }
        if let Err(error) = self.settle().await {
            tracing::warn!(%error, "rules of containers that are gone stay");
        }
    }

    /// Removes a bridge, with its subnets, unless somebody uses it; none is left when this ends.
    pub async fn remove_bridge(&self, bridge: &str) {
        let mut bridges = self.bridges.lock().await;
        if self.state().uses(bridge) {
            return;
        }
        for answers in bridges.remove(bridge).into_iter().flatten() {
            answers.close().await;
        }
        if let Err(error) = self.rules.links.remove(bridge).await {
            tracing::warn!(bridge, %error, "a bridge stays");
        }
    }

    /// Has the host's rules say what they are to say. Changes that come together are made together.
    pub async fn settle(&self) -> Result<(), HostError> {
        self.rules.settle().await
    }

    /// Removes interfaces that an earlier daemon left and nobody uses.
    pub async fn remove_strays(&self) -> Result<(), HostError> {
        for name in self.rules.links.names(PREFIX).await? {
            let is_used = self.state().uses(&name) || self.state().endpoint(&name).is_some();
            if !is_used && let Err(error) = self.rules.links.remove(&name).await {
                tracing::warn!(interface = name, %error, "an interface of an earlier daemon stays");
            }
        }
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.rules.change(change)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.rules.state()
    }
}

/// What holds a published port open.
#[derive(Default)]
pub(crate) struct Opened {
    /// Where it listens, and where that leads.
    ports: Vec<(Listen, SocketAddr)>,
    forwards: Vec<Forward>,
    held: Vec<Held>,
}

/// Which of a container's addresses a port on this address leads to: one of the same family, else whichever it has.
fn target(endpoint: &HostEndpoint, address: IpAddr) -> Option<IpAddr> {
    let addresses = &endpoint.addresses;
    let same = addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
    same.or(addresses.first()).copied()
}

/// Where a port is listened on here. The addresses of the host that this one is a virtual machine of are not here: what comes to
/// them arrives at the loopback address.
fn inner(listen: &Listen, is_virtual: bool) -> Listen {
    match is_virtual && !listen.address.is_unspecified() {
        true => Listen {
            address: match listen.address {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            },
            ..*listen
        },
        false => *listen,
    }
}
