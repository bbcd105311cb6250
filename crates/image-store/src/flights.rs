//! Layers on their way into the store: each is brought by one ingest only, and only a few at once.

use crate::digest::Digest;
use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is on its way. Threads wait here for each other.
#[derive(Debug)]
pub(crate) struct Flights {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    layers: HashSet<Digest>,
    permits: usize,
}

impl Flights {
    /// At most `parallel` (but at least one) layers are read at once.
    pub(crate) fn new(parallel: usize) -> Self {
        Self {
            state: Mutex::new(State {
                layers: HashSet::new(),
                permits: parallel.max(1),
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits until nobody else brings the layer `blob`; nobody else will while the guard lives.
    pub(crate) fn claim(&self, blob: Digest) -> Claim<'_> {
        let waiting = |state: &mut State| !state.layers.insert(blob);
        drop(self.wait_while(waiting));
        Claim { flights: self, blob }
    }

    /// Waits for one's turn to read a layer.
    pub(crate) fn permit(&self) -> Permit<'_> {
        self.wait_while(|state| state.permits == 0).permits -= 1;
        Permit(self)
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_while(self.lock(), condition);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Flights::claim`].
pub(crate) struct Claim<'a> {
    flights: &'a Flights,
    blob: Digest,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.flights.lock().layers.remove(&self.blob);
        self.flights.changed.notify_all();
    }
}

/// See [`Flights::permit`].
pub(crate) struct Permit<'a>(&'a Flights);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().permits += 1;
        self.0.changed.notify_all();
    }
}
