//! What the engine does with networks for clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandbox::Sandbox;

use super::attach::{self, Added};
use super::endpoint::{Endpoint, EndpointConfig};
use super::mode::{check, joined};
use super::record::NetworkRecord;
use super::spare;
use super::{Member, NO_NETWORK, Network, NetworkCreate, NetworkDriver};
use crate::container::Live;
use crate::engine::{Shared, complete};
use crate::events::EventKind;
use crate::{Engine, EngineError, Result, Status, guest_spec, network_files};

/// The id of the network without anything in it, which is the same in every hull: the SHA-256 of its name.
const NO_NETWORK_ID: &str = "140bedbf9c3f6d56a9846d2ba7088798683f4da0c248231336e6a05679e4fdfe";

impl Engine {
    /// Ends all builds, and gives back what the host has for networks that no container runs in. Containers go on in theirs.
    pub async fn close(&self) {
        self.shared.builds.close().await;
        let networks = &self.shared.networks;
        spare::discard_all(networks).await;
        if let Some(host) = networks.opened_host() {
            host.close().await;
        }
    }

    /// Makes a network.
    pub async fn create_network(&self, create: NetworkCreate) -> Result<Network> {
        let shared = self.shared.clone();
        complete(async move {
            let record = shared.networks.create(create).await?;
            shared.tell_network("create", &record, None);
            Ok(shared.describe_network(record))
        })
        .await
    }

    /// All networks: those that every hull has first, the others in the order in which they were made.
    pub async fn networks(&self) -> Result<Vec<Network>> {
        let shared = &self.shared;
        shared.networks.default_bridge().await?;
        let mut records = shared.networks.all();
        records.sort_by_key(|record| (!record.is_default(), record.created));
        let mut networks: Vec<_> = records
            .into_iter()
            .map(|record| shared.describe_network(record))
            .collect();
        networks.insert(1, shared.describe_none());
        Ok(networks)
    }

    /// One network.
    pub async fn network(&self, name: &str) -> Result<Network> {
        if name == NO_NETWORK || (name.len() >= 12 && NO_NETWORK_ID.starts_with(name)) {
            return Ok(self.shared.describe_none());
        }
        let record = self.shared.networks.get(name).await?;
        Ok(self.shared.describe_network(record))
    }

    /// Removes a network that no container runs in.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        let network = self.network(name).await?;
        if network.predefined {
            return Err(EngineError::Forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        let shared = self.shared.clone();
        complete(async move {
            let _changing = shared.networks.changing.lock().await;
            let record = shared.networks.find(&network.id)?;
            spare::discard(&shared.networks, &network.id).await;
            let (work, id) = (shared.clone(), network.id.clone());
            crate::streams::blocking("remove a network", move || work.networks.remove(&id)).await?;
            // Of who was in it last, the bridge may still be there: its subnet is free for others now.
            if let Some(host) = shared.networks.opened_host() {
                host.remove_bridge(&record.bridge).await;
            }
            shared.tell_network("destroy", &record, None);
            Ok(())
        })
        .await
    }

    /// Removes the networks that no container is to be in and that `select` says yes to; answers their names.
    pub async fn prune_networks(&self, select: impl Fn(&Network) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks().await? {
            if network.predefined || network.users > 0 || !select(&network) {
                continue;
            }
            match self.remove_network(&network.id).await {
                Ok(()) => removed.push(network.name),
                // Taken or removed meanwhile.
                Err(EngineError::Forbidden(_) | EngineError::NoSuchNetwork(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.shared.events.prune(EventKind::Network, 0);
        Ok(removed)
    }

    /// Puts a container into one more network; at once, if it runs.
    pub async fn connect_network(
        &self,
        network: &str,
        container: &str,
        config: EndpointConfig,
    ) -> Result<()> {
        let record = self.shared.networks.get(network).await?;
        let (shared, live) = (self.shared.clone(), self.find(container)?);
        complete(async move { connect(&shared, &live, &record, config).await }).await
    }

    /// Takes a container out of a network; at once, if it runs.
    pub async fn disconnect_network(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let record = self.shared.networks.get(network).await?;
        let live = match self.find(container) {
            // What is not there is in no network.
            Err(EngineError::NoSuchContainer(_)) if force => return Ok(()),
            live => live?,
        };
        let shared = self.shared.clone();
        complete(async move { disconnect(&shared, &live, &record).await }).await
    }
}

async fn connect(
    shared: &Arc<Shared>,
    live: &Arc<Live>,
    network: &NetworkRecord,
    config: EndpointConfig,
) -> Result<()> {
    let _operation = live.operation.lock().await;
    let record = live.record();
    if record.config.no_network {
        return Err(EngineError::Forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
        ));
    }
    check(&network.name, &config)?;
    if joined(&record.config)
        .iter()
        .any(|(name, _)| *name == network.name)
    {
        return Err(EngineError::Forbidden(format!(
            "endpoint with name {} already exists in network {}",
            record.name, network.name
        )));
    }
    if live.status() == Status::Restarting {
        return Err(EngineError::Restarting(live.id().to_owned()));
    }
    if live.is_up() {
        connect_running(shared, live, network, &config).await?;
    }
    let name = network.name.clone();
    let written = live
        .change_record(|record| {
            keep_networks(record);
            record.config.endpoints.insert(name, config);
        })
        .await;
    if let Err(error) = written {
        if let Some(endpoint) = place(live, network) {
            leave(shared, live, &endpoint).await;
            // The first error says more.
            let _ = live.save().await;
        }
        return Err(error);
    }
    shared.tell_network("connect", network, Some(live.id()));
    Ok(())
}

async fn connect_running(
    shared: &Arc<Shared>,
    live: &Arc<Live>,
    network: &NetworkRecord,
    config: &EndpointConfig,
) -> Result<()> {
    let run = live.running("")?;
    let record = live.record();
    let Added {
        endpoint,
        mut interface,
        cable,
        ..
    } = attach::add(shared, live, &record, &network.name, config).await?;
    let connected = async {
        let host = shared.networks.host().await?;
        if live.watch().borrow().record.published.is_empty() {
            attach::publish(shared, live, &record).await?;
        }
        host.settle().await.map_err(EngineError::from)?;
        attach::plug(&run.sandbox, std::slice::from_ref(&cable))
            .await
            .map_err(lost(live))?;
        interface.gateways = attach::of_nic(&attach::gateways(shared, live), interface.nic);
        run.sandbox
            .guest()
            .add_interface(interface)
            .await
            .map_err(lost(live))?;
        live.save().await
    };
    let connected = connected.await;
    if connected.is_err() || !live.is_up() {
        leave(shared, live, &endpoint).await;
    }
    connected?;
    tell_guest(shared, live, &run.sandbox).await;
    Ok(())
}

/// Has a container that runs see its names and routes as they are now. What its guest does not take is no reason to undo the rest.
async fn tell_guest(shared: &Arc<Shared>, live: &Arc<Live>, sandbox: &Sandbox) {
    let record = live.record();
    let addressing = attach::addressing(shared, live);
    let files = network_files::files(&record.config, &guest_spec::hostname(&record), &addressing);
    let guest = sandbox.guest();
    let told = async {
        guest.set_gateways(attach::gateways(shared, live)).await?;
        guest.write_files(files).await
    };
    if let Err(error) = told.await {
        tracing::warn!(container = live.id(), %error, "a guest does not take its new names and routes");
    }
}

async fn disconnect(shared: &Arc<Shared>, live: &Arc<Live>, network: &NetworkRecord) -> Result<()> {
    let _operation = live.operation.lock().await;
    if !joined(&live.record().config)
        .iter()
        .any(|(name, _)| *name == network.name)
    {
        return Err(EngineError::Forbidden(format!(
            "container {} is not connected to network {}",
            live.id(),
            network.name
        )));
    }
    live.change_record(|record| {
        keep_networks(record);
        record.config.endpoints.remove(&network.name);
        record.config.left_networks = true;
    })
    .await?;
    if let Some(endpoint) = place(live, network) {
        leave(shared, live, &endpoint).await;
    }
    live.save().await?;
    shared.tell_network("disconnect", network, Some(live.id()));
    Ok(())
}

/// The place of a container in a network, if it runs there.
fn place(live: &Live, network: &NetworkRecord) -> Option<Endpoint> {
    let endpoints = live.watch().borrow().record.endpoints.clone();
    endpoints
        .into_iter()
        .find(|endpoint| endpoint.network == network.id)
}

/// Takes a container that may run out of a network. What its guest does not want to know does not matter: its cable is pulled.
async fn leave(shared: &Arc<Shared>, live: &Arc<Live>, endpoint: &Endpoint) {
    let had_ports = attach::leading(shared, live).is_some_and(|(leading, _)| leading.id == endpoint.id);
    if let Some(run) = live.run() {
        if let Err(error) = run.sandbox.guest().remove_interface(endpoint.nic).await {
            tracing::warn!(container = live.id(), %error, "a guest keeps an interface of a network that it is taken out of");
        }
        if let Err(error) = run.sandbox.plug(endpoint.nic, &[]).await {
            tracing::warn!(container = live.id(), %error, "a network device stays plugged in");
        }
    }
    attach::remove(shared, live, endpoint, false).await;
    let Some(run) = live.run() else { return };
    if had_ports {
        live.change(|standing| standing.record.published.clear());
        if let Err(error) = publish_elsewhere(shared, live).await {
            tracing::warn!(container = live.id(), %error, "ports of a container are not published any more");
        }
    }
    tell_guest(shared, live, &run.sandbox).await;
}

/// Publishes the ports of a container whose first network it was taken out of.
async fn publish_elsewhere(shared: &Arc<Shared>, live: &Arc<Live>) -> Result<()> {
    attach::publish(shared, live, &live.record()).await?;
    Ok(shared.networks.host().await?.settle().await?)
}

/// Writes down what went without saying, before something is said.
fn keep_networks(record: &mut crate::folder::ContainerRecord) {
    record.config.endpoints = joined(&record.config).into_iter().collect();
}

fn lost(live: &Live) -> impl FnOnce(sandbox::SandboxError) -> EngineError {
    let id = live.id().to_owned();
    move |source| EngineError::Sandbox {
        action: "connect",
        id,
        source,
    }
}

impl Shared {
    fn describe_network(&self, record: NetworkRecord) -> Network {
        let lives = self.registry.all();
        let users = lives.iter().filter(|live| {
            joined(&live.record().config)
                .iter()
                .any(|(name, _)| *name == record.name || *name == record.id)
        });
        let users = users.count();
        let member = |live: &Arc<Live>| {
            let endpoints = live.watch().borrow().record.endpoints.clone();
            let endpoint = endpoints
                .into_iter()
                .find(|endpoint| endpoint.network == record.id)?;
            Some(Member {
                container: live.id().to_owned(),
                name: live.record().name.clone(),
                endpoint: Some(endpoint),
            })
        };
        Network {
            members: lives.iter().filter_map(member).collect(),
            users,
            predefined: record.is_default(),
            ipv4: record.has_ipv4(),
            id: record.id,
            name: record.name,
            created: Some(record.created),
            driver: NetworkDriver::Bridge,
            internal: record.internal,
            ipv6: record.ipv6,
            attachable: record.attachable,
            subnets: record.subnets,
            options: record.options,
            labels: record.labels,
        }
    }

    fn describe_none(&self) -> Network {
        let lives = self.registry.all();
        let members = lives
            .iter()
            .filter(|live| live.is_up() && live.record().config.no_network);
        let member = |live: &Arc<Live>| Member {
            container: live.id().to_owned(),
            name: live.record().name.clone(),
            endpoint: None,
        };
        Network {
            id: NO_NETWORK_ID.into(),
            name: NO_NETWORK.into(),
            created: None,
            driver: NetworkDriver::Null,
            internal: false,
            ipv4: false,
            ipv6: false,
            attachable: false,
            subnets: Vec::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            predefined: true,
            members: members.map(member).collect(),
            users: 0,
        }
    }

    pub(crate) fn tell_network(&self, action: &str, network: &NetworkRecord, container: Option<&str>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), NetworkDriver::Bridge.as_str().to_owned()),
        ]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
        self.events
            .publish(EventKind::Network, action, &network.id, attributes);
    }

    /// The networks of a container by name, with its place in each while it runs.
    pub(crate) fn networks_of(&self, live: &Live) -> BTreeMap<String, ContainerNetwork> {
        let endpoints = live.watch().borrow().record.endpoints.clone();
        let container = live.record();
        if container.config.no_network {
            let none = ContainerNetwork {
                id: NO_NETWORK_ID.into(),
                ..ContainerNetwork::default()
            };
            return BTreeMap::from([(NO_NETWORK.to_owned(), none)]);
        }
        let place = |(name, config): (String, EndpointConfig)| {
            let record = self.networks.find(&name).ok();
            let id = record
                .as_ref()
                .map(|record| record.id.clone())
                .unwrap_or_default();
            let endpoint = endpoints.iter().find(|endpoint| endpoint.network == id).cloned();
            let name = record.map_or(name, |record| record.name);
            (name, ContainerNetwork { id, config, endpoint })
        };
        joined(&container.config).into_iter().map(place).collect()
    }
}

/// A network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerNetwork {
    /// Its id; empty where there is no such network yet.
    pub id: String,
    /// What was asked of the container's place in it.
    pub config: EndpointConfig,
    /// The place, while the container runs.
    pub endpoint: Option<Endpoint>,
}
