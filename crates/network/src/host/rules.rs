//! What the host's rules are to say, and that they say it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::doors::Told;
use super::state::{Answer, State};
use super::{HostEndpoint, HostError};
use crate::{Firewall, Links};

/// Pins that end within this time are closed together.
const TOGETHER: Duration = Duration::from_secs(1);

/// When closing is tried again that failed.
const AGAIN: Duration = Duration::from_secs(10);

/// The endpoints of a host, and the rules that are made of them.
pub(super) struct Rules {
    pub(super) links: Links,
    firewall: Firewall,
    /// Destinations that no container reaches.
    forbidden: Vec<IpNet>,
    state: Mutex<State>,
    /// How often the state was changed in a way that the rules tell.
    version: AtomicU64,
    /// Which of these changes the host's rules say. Held while they are changed.
    applied: tokio::sync::Mutex<u64>,
    /// That something was pinned.
    pinned: Notify,
    /// Whether nobody hears of refused packets.
    silent: AtomicBool,
}

impl Rules {
    pub(super) fn new(links: Links, forbidden: Vec<IpNet>) -> Self {
        Self {
            links,
            firewall: Firewall::new(),
            forbidden,
            state: Mutex::default(),
            version: AtomicU64::new(0),
            applied: tokio::sync::Mutex::new(0),
            pinned: Notify::new(),
            silent: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the rules are to say.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.change_if(|state| (change(state), true))
    }

    /// Gives an endpoint to a container; says whether the rules stay as they are.
    pub(super) fn assign(&self, endpoint: HostEndpoint) -> bool {
        self.change_if(|state| {
            let same = state.assign(endpoint);
            (same, !same)
        })
    }

    /// Changes what the rules are to say, if the change says so.
    fn change_if<T>(&self, change: impl FnOnce(&mut State) -> (T, bool)) -> T {
        let mut state = self.state();
        let (result, changed) = change(&mut state);
        if changed {
            // While nobody can see the state without the number.
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        result
    }

    /// Has the host's rules say what they are to say. Changes that come together are made together.
    pub(super) async fn settle(&self) -> Result<(), HostError> {
        let wanted = self.version.load(Ordering::Acquire);
        let mut applied = self.applied.lock().await;
        if *applied >= wanted && *applied > 0 {
            return Ok(());
        }
        let now = self.version.load(Ordering::Acquire);
        let mut ruleset = self.state().ruleset(&self.forbidden);
        ruleset.silent = self.silent.load(Ordering::Acquire);
        match ruleset.endpoints.is_empty() {
            true => self.firewall.remove().await?,
            false => self.firewall.apply(&ruleset).await?,
        }
        *applied = now;
        Ok(())
    }

    /// Leaves out of the rules what tells of refused packets.
    pub(super) fn be_silent(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Opens the addresses that a name stands for to a container that may go there; answers those that it may be told, once the
    /// way is open. The name may be kept for `ttl`.
    pub(super) async fn open(
        self: &Arc<Self>,
        container: &str,
        name: &str,
        addresses: Vec<IpAddr>,
        ttl: Duration,
    ) -> Vec<IpAddr> {
        if !self.state().is_restricted(container) {
            return addresses;
        }
        let own = match self.links.addresses().await {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(container, name, %error, "nothing is opened, for the host's own addresses are not known");
                return Vec::new();
            }
        };
        let near = |address: IpAddr| own.contains(&address);
        let told = self.change_if(|state| {
            let answer = Answer {
                name,
                addresses: &addresses,
                ttl,
            };
            let Told { addresses, changed } = state.open(container, &answer, &self.forbidden, near);
            (addresses, changed)
        });
        self.pinned.notify_one();
        // It goes on when the client gives up: when it asks again, the way is open.
        let rules = Arc::clone(self);
        let settled = tokio::spawn(async move { rules.settle().await }).await;
        match settled {
            Ok(Ok(())) => told,
            Ok(Err(error)) => {
                tracing::warn!(container, name, %error, "an allowed name cannot be opened");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Closes what is open for a time when the time is over, as long as this runs.
    pub(super) async fn close_in_time(self: Arc<Self>) {
        let mut again: Option<Instant> = None;
        loop {
            let next = self.state().next_end().map(|end| end + TOGETHER);
            let next = [next, again].into_iter().flatten().min();
            let end = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end => {}
                () = self.pinned.notified() => continue,
            }
            let is_over = self.change_if(|state| {
                let closed = state.prune(Instant::now());
                (closed, closed)
            });
            if !is_over && again.is_none() {
                continue;
            }
            again = match self.settle().await {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(%error, "what was open for a time stays open");
                    Some(Instant::now() + AGAIN)
                }
            };
        }
    }
}
