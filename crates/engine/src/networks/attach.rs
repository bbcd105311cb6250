//! Containers that run in networks.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipnet::IpNet;
use network::dns::DNS_PORT;
use network::{HostEndpoint, HostNetworks, Publish, TAP_PREFIX, mac_of};
use sandbox::{Gateway, Interface, Sandbox};

use super::egress;
use super::endpoint::{Endpoint, EndpointConfig, MacAddress};
use super::mode::joined;
use super::ports::{self, PublishedPort};
use super::record::NetworkRecord;
use super::spare::{self, Spare};
use super::{DEFAULT_NETWORK, Networks};
use crate::container::Live;
use crate::engine::Shared;
use crate::folder::ContainerRecord;
use crate::network_files::Addressing;
use crate::{EngineError, Result, ids};

/// The networks that a container is about to run in.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    /// What its guest has to set up.
    pub(crate) interfaces: Vec<Interface>,
    /// What is to be plugged into its microVM's network devices.
    pub(crate) cables: Vec<Cable>,
    /// What its files tell of them.
    pub(crate) addressing: Addressing,
}

/// The host's end of an interface. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    nic: u8,
    queues: Arc<Vec<OwnedFd>>,
}

impl Networks {
    /// The network with this name or id.
    pub(crate) async fn get(&self, name: &str) -> Result<NetworkRecord> {
        match name {
            DEFAULT_NETWORK => self.default_bridge().await,
            name => self.find(name),
        }
    }
}

/// Gives a container its place in each of its networks; nothing of it is left if that fails.
pub(crate) async fn attach(shared: &Arc<Shared>, live: &Live) -> Result<Attached> {
    let record = live.record();
    let joined = joined(&record.config);
    if joined.is_empty() {
        return Ok(Attached::default());
    }
    let attached = attach_all(shared, live, &record, &joined).await;
    match attached {
        Ok(_) => tell(shared, live, "connect", &live.watch().borrow().record.endpoints),
        Err(_) => drop(detach(shared, live).await),
    }
    attached
}

async fn attach_all(
    shared: &Arc<Shared>,
    live: &Live,
    record: &ContainerRecord,
    joined: &[(String, EndpointConfig)],
) -> Result<Attached> {
    let mut attached = Attached::default();
    let mut settled = true;
    for (name, config) in joined {
        let added = add(shared, live, record, name, config).await?;
        attached.interfaces.push(added.interface);
        attached.cables.push(added.cable);
        settled &= added.settled;
    }
    settled &= publish(shared, live, record).await? == 0;
    let gateways = gateways(shared, live);
    for interface in &mut attached.interfaces {
        interface.gateways = of_nic(&gateways, interface.nic);
    }
    attached.addressing = addressing(shared, live);
    if !settled {
        shared.networks.host().await?.settle().await?;
    }
    Ok(attached)
}

/// Gives a container its place in one more network.
pub(super) async fn add(
    shared: &Arc<Shared>,
    live: &Live,
    record: &ContainerRecord,
    name: &str,
    config: &EndpointConfig,
) -> Result<Added> {
    let network = shared.networks.get(name).await?;
    super::restore::mark(shared)?;
    let nic = free_nic(live)?;
    let spare = shared.networks.spares.take(&network.id, config, queues(record));
    let placed = match spare {
        Some(Spare { endpoint, queues }) => Ok((endpoint, queues, true)),
        None => make(shared, live, record, &network, config)
            .await
            .map(|(endpoint, queues)| (endpoint, queues, false)),
    };
    let (endpoint, queues, was_spare) = placed?;
    let endpoint = Endpoint {
        nic,
        interface: format!("eth{nic}"),
        ..endpoint
    };
    let interface = interface(&network, &endpoint);
    live.change(|standing| standing.record.endpoints.push(endpoint.clone()));
    let mut settled = false;
    if was_spare {
        let on_host = on_host(shared, live, record, &network, config, &endpoint);
        settled = shared.networks.host().await?.assign(on_host).await;
    }
    spare::prepare(shared, &network);
    Ok(Added {
        endpoint,
        interface,
        cable: Cable { nic, queues },
        settled,
    })
}

/// A place that a container was given.
pub(super) struct Added {
    pub(super) endpoint: Endpoint,
    pub(super) interface: Interface,
    pub(super) cable: Cable,
    /// Whether the host's rules say so already.
    settled: bool,
}

/// Makes a place that is the container's from the beginning.
async fn make(
    shared: &Arc<Shared>,
    live: &Live,
    record: &ContainerRecord,
    network: &NetworkRecord,
    config: &EndpointConfig,
) -> Result<(Endpoint, Arc<Vec<OwnedFd>>)> {
    let networks = &shared.networks;
    let asked: Vec<IpAddr> = config
        .ipv4
        .map(IpAddr::from)
        .into_iter()
        .chain(config.ipv6.map(IpAddr::from))
        .collect();
    if config.mac.is_some() {
        // The one in reserve may have it.
        spare::discard(networks, &network.id).await;
    }
    let addresses = match networks.take(&network.id, &asked) {
        // The one in reserve may have what is wanted.
        Err(_) if spare::discard(networks, &network.id).await => networks.take(&network.id, &asked)?,
        taken => taken?,
    };
    let made = async {
        let endpoint = make_endpoint(network, 0, addresses.clone(), config)?;
        let on_host = on_host(shared, live, record, network, config, &endpoint);
        let queues = networks.host().await?.connect(on_host).await?;
        Ok((endpoint, Arc::new(queues)))
    };
    let made = made.await;
    made.inspect_err(|_| networks.give_back(&network.id, &addresses))
}

/// How many queues its interfaces have.
fn queues(record: &ContainerRecord) -> u16 {
    u16::from(record.vm.vcpus).clamp(1, sandbox::MAX_NIC_QUEUES)
}

/// Takes a container out of one network that it runs in, unless somebody has done that meanwhile. `has_ended` says that nobody has
/// its interface any more.
pub(super) async fn remove(shared: &Arc<Shared>, live: &Live, endpoint: &Endpoint, has_ended: bool) {
    let (mut was_there, mut is_published) = (false, false);
    live.change(|standing| {
        is_published = !standing.record.published.is_empty();
        let endpoints = &mut standing.record.endpoints;
        let before = endpoints.len();
        endpoints.retain(|other| other.id != endpoint.id);
        was_there = endpoints.len() < before;
    });
    if !was_there {
        return;
    }
    if !spare::keep(shared, endpoint, has_ended && !is_published).await {
        if let Ok(host) = shared.networks.host().await {
            host.disconnect(&endpoint.tap);
        }
        shared.networks.give_back(&endpoint.network, &endpoint.addresses);
    }
    spare::discard_later(shared, &endpoint.network);
}

/// Takes a container out of all networks, when it has ended; answers its places in them.
pub(crate) async fn detach(shared: &Arc<Shared>, live: &Live) -> Vec<Endpoint> {
    let endpoints = live.watch().borrow().record.endpoints.clone();
    for endpoint in &endpoints {
        remove(shared, live, endpoint, true).await;
    }
    live.change(|standing| standing.record.published.clear());
    endpoints
}

/// Tells what became of a container's places in networks.
pub(crate) fn tell(shared: &Shared, live: &Live, action: &str, endpoints: &[Endpoint]) {
    if live.record().config.of_build {
        return;
    }
    for endpoint in endpoints {
        if let Ok(network) = shared.networks.find(&endpoint.network) {
            shared.tell_network(action, &network, Some(live.id()));
        }
    }
}

/// What a container's files tell of the networks that it runs in.
pub(super) fn addressing(shared: &Shared, live: &Live) -> Addressing {
    let endpoints = live.watch().borrow().record.endpoints.clone();
    let first = endpoints.first();
    let record = live.record();
    let asks_others = first.is_some_and(|endpoint| {
        let network = shared.networks.find(&endpoint.network);
        // Names that a policy allows are opened by hull's own server, which hands on what it does not know.
        let asks_itself =
            |network: NetworkRecord| network.is_default() && egress::policies(&record, &network).is_empty();
        network.is_ok_and(asks_itself) && !record.config.dns.is_empty()
    });
    let gateway = first.and_then(|endpoint| endpoint.gateways.first().copied());
    Addressing {
        own: endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter().map(IpNet::addr))
            .collect(),
        gateway,
        // As with Docker, the default network has no names of its own to tell, and who asks others there asks them itself.
        server: gateway.filter(|_| !asks_others),
    }
}

/// Plugs a microVM's network devices in while its guest makes the container. What keeps the guest from that says more than what
/// keeps the VMM from the other.
pub(crate) async fn plug_meanwhile(
    sandbox: &Sandbox,
    cables: &[Cable],
    created: impl Future<Output = Result<(), sandbox::SandboxError>>,
) -> Result<(), sandbox::SandboxError> {
    let plugged = plug(sandbox, cables);
    tokio::pin!(created, plugged);
    tokio::select! {
        created = &mut created => {
            created?;
            plugged.await
        }
        plugged = &mut plugged => {
            created.await?;
            plugged
        }
    }
}

/// Plugs a microVM's network devices in.
pub(super) async fn plug(sandbox: &Sandbox, cables: &[Cable]) -> Result<(), sandbox::SandboxError> {
    for cable in cables {
        let queues: Vec<_> = cable.queues.iter().map(AsFd::as_fd).collect();
        sandbox.plug(cable.nic, &queues).await?;
    }
    Ok(())
}

/// The device that no network of the container has.
fn free_nic(live: &Live) -> Result<u8> {
    let standing = live.watch();
    let standing = standing.borrow();
    let taken = |nic: &u8| {
        standing
            .record
            .endpoints
            .iter()
            .any(|endpoint| endpoint.nic == *nic)
    };
    let free = (0..sandbox::MAX_NICS).find(|nic| !taken(nic));
    free.ok_or_else(|| {
        EngineError::Forbidden(format!(
            "container {} is in {} networks, which is as many as a microVM has network devices for",
            ids::short(live.id()),
            sandbox::MAX_NICS
        ))
    })
}

pub(super) fn make_endpoint(
    network: &NetworkRecord,
    nic: u8,
    addresses: Vec<IpNet>,
    config: &EndpointConfig,
) -> Result<Endpoint> {
    let id = ids::new_id().map_err(EngineError::io("read", "random numbers"))?;
    let first = addresses
        .first()
        .ok_or_else(|| EngineError::Internal(format!("network {} has no subnet", network.name)))?;
    Ok(Endpoint {
        tap: format!("{TAP_PREFIX}{}", &id[..8]),
        interface: format!("eth{nic}"),
        mac: config.mac.unwrap_or_else(|| MacAddress(mac_of(first.addr()))),
        gateways: network.gateways().collect(),
        network: network.id.clone(),
        nic,
        addresses,
        id,
    })
}

/// What the guest has to set up, but for its default routes.
fn interface(network: &NetworkRecord, endpoint: &Endpoint) -> Interface {
    let with_prefix = |net: &IpNet| (net.addr(), net.prefix_len());
    Interface {
        nic: endpoint.nic,
        name: endpoint.interface.clone(),
        mac: endpoint.mac.0,
        mtu: network.mtu(),
        addresses: endpoint.addresses.iter().map(with_prefix).collect(),
        gateways: Vec::new(),
    }
}

/// The default routes of a container: of each family, that of the network with the highest priority that leads somewhere.
pub(super) fn gateways(shared: &Shared, live: &Live) -> Vec<Gateway> {
    let record = live.record();
    let endpoints = live.watch().borrow().record.endpoints.clone();
    let mut leading: Vec<_> = endpoints
        .iter()
        .filter_map(|endpoint| {
            let network = shared.networks.find(&endpoint.network).ok()?;
            let asked = record.config.endpoints.get(&network.name);
            let priority = asked.map_or(0, |config| config.gateway_priority);
            (!network.internal).then_some((std::cmp::Reverse(priority), endpoint))
        })
        .collect();
    // In the order in which it was connected, where nothing is said.
    leading.sort_by_key(|(priority, _)| *priority);
    let first = |is_family: fn(&IpAddr) -> bool| {
        leading.iter().find_map(|(_, endpoint)| {
            let address = endpoint.gateways.iter().copied().find(is_family)?;
            Some(Gateway {
                nic: endpoint.nic,
                address,
            })
        })
    };
    [first(IpAddr::is_ipv4), first(IpAddr::is_ipv6)]
        .into_iter()
        .flatten()
        .collect()
}

/// Those of them that are reached over one network device.
pub(super) fn of_nic(gateways: &[Gateway], nic: u8) -> Vec<IpAddr> {
    let own = gateways.iter().filter(|gateway| gateway.nic == nic);
    own.map(|gateway| gateway.address).collect()
}

/// What the host has to do for an endpoint.
fn on_host(
    shared: &Shared,
    live: &Live,
    record: &ContainerRecord,
    network: &NetworkRecord,
    config: &EndpointConfig,
    endpoint: &Endpoint,
) -> HostEndpoint {
    let mut names = vec![record.name.clone(), ids::short(live.id()).to_owned()];
    names.extend(config.aliases.iter().cloned());
    HostEndpoint {
        container: live.id().to_owned(),
        network: Arc::new(network.on_host()),
        tap: endpoint.tap.clone(),
        queues: queues(record),
        mac: endpoint.mac.0,
        addresses: endpoint.addresses.iter().map(IpNet::addr).collect(),
        // Who has not made a network of its own finds nobody that was not named to it.
        names: if network.is_default() { Vec::new() } else { names },
        links: links(shared, record, config, network.is_default()),
        servers: servers(&record.config.dns),
        egress: egress::policies(record, network),
    }
}

/// Which containers it finds under which further names.
fn links(
    shared: &Shared,
    record: &ContainerRecord,
    config: &EndpointConfig,
    is_default: bool,
) -> Vec<(String, String)> {
    let of_default = record.config.links.iter().filter(|_| is_default);
    let mut links = Vec::new();
    for link in config.links.iter().chain(of_default) {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        // One that is gone is not found, as any name that is nobody's.
        if let Ok(other) = shared.registry.find(name.trim_start_matches('/')) {
            links.push((
                alias.rsplit('/').next().unwrap_or(alias).to_owned(),
                other.id().to_owned(),
            ));
        }
    }
    links
}

/// The name servers that were asked for in place of the host's.
fn servers(asked: &[String]) -> Vec<SocketAddr> {
    let addresses = asked.iter().filter_map(|server| server.parse::<IpAddr>().ok());
    addresses
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .collect()
}

/// The first place of a container in a network that leads somewhere: where its ports are.
pub(super) fn leading(shared: &Shared, live: &Live) -> Option<(Endpoint, NetworkRecord)> {
    let endpoints = live.watch().borrow().record.endpoints.clone();
    endpoints.into_iter().find_map(|endpoint| {
        let network = shared.networks.find(&endpoint.network).ok()?;
        (!network.internal).then_some((endpoint, network))
    })
}

/// The same for an endpoint of a container that runs.
pub(super) fn on_host_again(
    shared: &Shared,
    live: &Live,
    network: &NetworkRecord,
    endpoint: &Endpoint,
) -> HostEndpoint {
    let record = live.record();
    let mut joined = joined(&record.config).into_iter();
    let config = joined.find(|(name, _)| *name == network.name);
    let config = config.map(|(_, config)| config).unwrap_or_default();
    on_host(shared, live, &record, network, &config, endpoint)
}

/// Has others in its networks find a container by its names as they are now.
pub(crate) async fn renamed(shared: &Arc<Shared>, live: &Live) {
    let endpoints = live.watch().borrow().record.endpoints.clone();
    for endpoint in &endpoints {
        let host = shared.networks.host().await;
        let (Ok(host), Ok(network)) = (host, shared.networks.find(&endpoint.network)) else {
            continue;
        };
        host.assign(on_host_again(shared, live, &network, endpoint)).await;
    }
}

/// Publishes the container's ports on the host; answers how many.
pub(super) async fn publish(shared: &Arc<Shared>, live: &Live, record: &ContainerRecord) -> Result<usize> {
    let wanted = ports::wanted(&record.config)?;
    let count = wanted.len();
    if wanted.is_empty() {
        return Ok(0);
    }
    let leading = leading(shared, live);
    // Nobody outside gets into an internal network, and Docker says nothing of it, either.
    let Some((endpoint, network)) = leading else {
        return Ok(0);
    };
    let host = shared.networks.host().await?;
    for binding in wanted {
        let published = publish_one(host, &endpoint, &network, &binding).await?;
        live.change(|standing| standing.record.published.extend(published));
    }
    Ok(count)
}

async fn publish_one(
    host: &HostNetworks,
    endpoint: &Endpoint,
    network: &NetworkRecord,
    binding: &ports::PortBinding,
) -> Result<Vec<PublishedPort>> {
    let publish = Publish {
        protocol: binding.port.protocol,
        addresses: binding.addresses(network.host_binding()),
        ports: binding.range(),
        container_port: binding.port.number,
    };
    let published = host.publish(&endpoint.tap, publish).await;
    let published = published.map_err(EngineError::from)?;
    let shown = published.into_iter().map(|listen| PublishedPort {
        port: binding.port,
        host: listen.address,
        host_port: listen.port,
    });
    Ok(shown.collect())
}
