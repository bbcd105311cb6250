//! Places in networks that are made before a container needs them.
//!
//! An interface and the rules about it take the host longer than a container takes to start. So a network in which containers are
//! started has a place in reserve, which is there until nobody has run in the network for a while. The place of a container that
//! has ended serves the next one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use network::{HostEndpoint, drain};

use super::attach::make_endpoint;
use super::endpoint::{Endpoint, EndpointConfig};
use super::record::NetworkRecord;
use super::{Networks, egress};
use crate::engine::Shared;
use crate::{EngineError, Result, ids};

/// How long after a start the next place is made: the container that has just been started comes first.
const DELAY: Duration = Duration::from_millis(300);
/// How long a place is kept for a network that nobody runs in.
const LINGER: Duration = Duration::from_secs(10);
/// How many places of containers that have ended are kept: while one is made ready for the next container, another one starts.
const MOST: usize = 2;
/// How many queues its interface has: as many as a microVM with one processor wants.
const QUEUES: u16 = 1;

/// A place that nobody has yet.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) endpoint: Endpoint,
    pub(super) queues: Arc<Vec<OwnedFd>>,
}

/// The places in reserve.
#[derive(Debug, Default)]
pub(super) struct Spares {
    state: Mutex<State>,
    /// Held while one is made.
    work: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// By the ids of their networks.
    ready: HashMap<String, Vec<Spare>>,
    /// Those that containers have left, until nothing reminds of these.
    left_behind: HashMap<String, Vec<Spare>>,
    /// The queues of those that containers have, by the names of their interfaces.
    lent: HashMap<String, Arc<Vec<OwnedFd>>>,
    /// The networks that one is to be made for.
    wanted: HashSet<String>,
    /// When somebody left a network last.
    left: HashMap<String, Instant>,
}

impl Spares {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place in a network, if it is what a container wants.
    pub(super) fn take(&self, network: &str, config: &EndpointConfig, queues: u16) -> Option<Spare> {
        let wants_its_own = config.ipv4.is_some() || config.ipv6.is_some() || config.mac.is_some();
        if wants_its_own || queues != QUEUES {
            return None;
        }
        let mut state = self.state();
        let spare = state.ready.get_mut(network)?.pop()?;
        state
            .lent
            .insert(spare.endpoint.tap.clone(), spare.queues.clone());
        drop(state);
        // What has been sent to nobody meanwhile.
        spare.queues.iter().for_each(drain);
        Some(spare)
    }

    /// How many places of a network there are in reserve.
    fn count(&self, network: &str) -> usize {
        let state = self.state();
        let known = [&state.ready, &state.left_behind];
        known
            .iter()
            .filter_map(|places| places.get(network))
            .map(Vec::len)
            .sum()
    }
}

impl State {
    fn has_one(&self, network: &str) -> bool {
        self.ready.get(network).is_some_and(|ready| !ready.is_empty())
    }
}

/// Keeps the place that a container has left for the next one, if it came out of the reserve, is as it was, and is wanted. Otherwise
/// it is still the caller's.
pub(super) async fn keep(shared: &Arc<Shared>, endpoint: &Endpoint, is_as_it_was: bool) -> bool {
    let networks = &shared.networks;
    let id = &endpoint.network;
    let Some(queues) = networks.spares.state().lent.remove(&endpoint.tap) else {
        return false;
    };
    let (Ok(host), Ok(network), Ok(new_id)) = (networks.host().await, networks.find(id), ids::new_id())
    else {
        close(queues);
        return false;
    };
    let endpoint = Endpoint {
        id: new_id,
        ..endpoint.clone()
    };
    let vacant = on_host(&network, &endpoint);
    let addresses = vacant.addresses.clone();
    if !is_as_it_was || networks.spares.count(id) >= MOST || !host.assign(vacant).await {
        close(queues);
        return false;
    }
    let tap = endpoint.tap.clone();
    {
        let mut state = networks.spares.state();
        let left_behind = state.left_behind.entry(id.clone()).or_default();
        left_behind.push(Spare { endpoint, queues });
    }
    let (shared, id, host) = (shared.clone(), id.clone(), host.clone());
    tokio::spawn(async move {
        if !host.forget(&addresses).await {
            discard(&shared.networks, &id).await;
            return;
        }
        let mut state = shared.networks.spares.state();
        // Unless it was given up meanwhile.
        let left_behind = state.left_behind.get_mut(&id);
        let freed = left_behind.and_then(|left_behind| {
            let place = left_behind.iter().position(|spare| spare.endpoint.tap == tap)?;
            Some(left_behind.swap_remove(place))
        });
        if let Some(spare) = freed {
            state.ready.entry(id).or_default().push(spare);
        }
    });
    true
}

/// Closes the queues of an interface, with which it goes: the kernel takes a while for that.
fn close(queues: Arc<Vec<OwnedFd>>) {
    tokio::task::spawn_blocking(move || drop(queues));
}

/// Makes a place for the next container of a network, in the background.
pub(super) fn prepare(shared: &Arc<Shared>, network: &NetworkRecord) {
    {
        let mut state = shared.networks.spares.state();
        if state.has_one(&network.id) || !state.wanted.insert(network.id.clone()) {
            return;
        }
    }
    let (shared, network) = (shared.clone(), network.clone());
    tokio::spawn(async move {
        tokio::time::sleep(DELAY).await;
        let spares = &shared.networks.spares;
        let work = spares.work.lock().await;
        // It may have been given up meanwhile.
        if !spares.state().wanted.remove(&network.id) {
            return;
        }
        if spares.count(&network.id) > 0 {
            return;
        }
        match make(&shared, &network).await {
            Ok(spare) => spares
                .state()
                .ready
                .entry(network.id.clone())
                .or_default()
                .push(spare),
            // Whoever needs one makes it, and is told why it cannot be made.
            Err(error) => tracing::debug!(network = network.name, %error, "no place is kept in reserve"),
        }
        drop(work);
        discard_later(&shared, &network.id);
    });
}

async fn make(shared: &Arc<Shared>, network: &NetworkRecord) -> Result<Spare> {
    let networks = &shared.networks;
    let addresses = networks.take(&network.id, &[])?;
    let made = async {
        let endpoint = make_endpoint(network, 0, addresses.clone(), &EndpointConfig::default())?;
        let host = networks.host().await?;
        let queues = host.connect(on_host(network, &endpoint)).await?;
        if let Err(error) = host.settle().await {
            host.disconnect(&endpoint.tap);
            return Err(EngineError::from(error));
        }
        Ok(Spare {
            endpoint,
            queues: Arc::new(queues),
        })
    };
    let made = made.await;
    made.inspect_err(|_| networks.give_back(&network.id, &addresses))
}

fn on_host(network: &NetworkRecord, endpoint: &Endpoint) -> HostEndpoint {
    HostEndpoint {
        container: String::new(),
        network: Arc::new(network.on_host()),
        tap: endpoint.tap.clone(),
        queues: QUEUES,
        mac: endpoint.mac.0,
        addresses: endpoint
            .addresses
            .iter()
            .map(|net| net.addr())
            .collect::<Vec<IpAddr>>(),
        names: Vec::new(),
        links: Vec::new(),
        servers: Vec::new(),
        egress: egress::of_network(network),
    }
}

/// Gives up the place in a network some time from now, unless somebody runs there then.
pub(super) fn discard_later(shared: &Arc<Shared>, network: &str) {
    let (shared, network) = (shared.clone(), network.to_owned());
    let now = Instant::now();
    shared.networks.spares.state().left.insert(network.clone(), now);
    tokio::spawn(async move {
        tokio::time::sleep(LINGER).await;
        {
            let mut state = shared.networks.spares.state();
            if state.left.get(&network) != Some(&now) {
                return;
            }
            state.left.remove(&network);
        }
        if shared.networks.members(&network) <= shared.networks.spares.count(&network) {
            discard(&shared.networks, &network).await;
        }
    });
}

/// Gives up all places, when no more containers are started.
pub(super) async fn discard_all(networks: &Networks) {
    for network in networks.all() {
        discard(networks, &network.id).await;
    }
}

/// Gives up the places in a network; says whether there was one.
pub(super) async fn discard(networks: &Networks, network: &str) -> bool {
    networks.spares.state().wanted.remove(network);
    // One that is being made is there then.
    let _work = networks.spares.work.lock().await;
    let spares = {
        let mut state = networks.spares.state();
        let known = [state.ready.remove(network), state.left_behind.remove(network)];
        known.into_iter().flatten().flatten().collect::<Vec<_>>()
    };
    let any = !spares.is_empty();
    for spare in spares {
        if let Ok(host) = networks.host().await {
            host.disconnect(&spare.endpoint.tap);
        }
        networks.give_back(network, &spare.endpoint.addresses);
        close(spare.queues);
    }
    any
}
