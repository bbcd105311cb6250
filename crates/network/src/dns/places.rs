//! Places for what clients have under way: bounded for one of them, and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What part of the places that are free one client may have.
const SHARE: usize = 16;

/// A number of places that clients share.
///
/// Who has some may have more only up to a sixteenth of what is free. So one client alone gets no more than that of all, the
/// more clients there are the less each gets, and places stay free for one that comes late.
pub(super) struct Places {
    all: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    sum: usize,
    /// Clients that have none are not in it.
    by_client: HashMap<String, usize>,
}

impl Places {
    pub(super) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            taken: Mutex::default(),
        })
    }

    /// A place for as long as the result lives; nothing if the client has its share.
    pub(super) fn take(self: &Arc<Self>, client: &str) -> Option<Place> {
        let mut taken = self.taken();
        let has = taken.by_client.get(client).copied().unwrap_or(0);
        let free = self.all.saturating_sub(taken.sum);
        if has >= (free / SHARE).max(free.min(1)) {
            return None;
        }
        taken.sum += 1;
        taken.by_client.insert(client.to_owned(), has + 1);
        Some(Place {
            places: Arc::clone(self),
            client: client.to_owned(),
        })
    }

    fn give_back(&self, client: &str) {
        let mut taken = self.taken();
        taken.sum = taken.sum.saturating_sub(1);
        match taken.by_client.get_mut(client) {
            Some(has) if *has > 1 => *has -= 1,
            _ => {
                taken.by_client.remove(client);
            }
        }
    }

    /// Numbers stay right whoever panicked while they were looked at.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place of a client, free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    client: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(&self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(places: &Arc<Places>, client: &str) -> Vec<Place> {
        std::iter::from_fn(|| places.take(client)).collect()
    }

    #[test]
    fn a_client_gets_its_share_and_gets_it_again() {
        let places = Places::new(1024);
        let mut held = take_all(&places, "a");
        assert_eq!(held.len(), 60);
        held.truncate(59);
        assert!(places.take("a").is_some());
        drop(held);
        assert_eq!(take_all(&places, "a").len(), 60);
        assert!(places.taken().by_client.is_empty());
    }

    #[test]
    fn clients_that_take_all_they_can_get_leave_some_for_others() {
        let places = Places::new(1024);
        let mut held: Vec<_> = (0..50)
            .map(|client| take_all(&places, &client.to_string()))
            .collect();
        assert_eq!(take_all(&places, "late").len(), 3);
        // When the first ones are through, all are alike.
        held.remove(0);
        assert!(places.take("1").is_none());
        assert!(places.take("late").is_some());
    }

    #[test]
    fn there_are_no_more_places_than_there_are() {
        let places = Places::new(20);
        let held: Vec<_> = (0..40)
            .filter_map(|client| places.take(&client.to_string()))
            .collect();
        assert_eq!(held.len(), 20);
    }
}
