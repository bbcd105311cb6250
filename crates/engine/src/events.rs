//! What happens, for those who listen.
//!
//! Everything that an engine tells goes through [`Events::publish`]. The last of it is kept in memory, so that who comes
//! a little late can ask for it; nothing of it is written down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::broadcast;

/// How many events are kept for those who ask for the past, as Docker does.
const KEPT: usize = 256;
/// How many events may wait for a listener. One that is slower misses the oldest.
const WAITING: usize = 1024;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub kind: EventKind,
    /// What happened, in Docker's words: `start`, `exec_create: ls`.
    pub action: String,
    /// The id of the container, or the name or id of the image.
    pub id: String,
    /// More about it: the container's labels, its image and name, its exit code.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}

/// Where events are told. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    past: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Events {
        Events(Arc::new(Shared {
            past: Mutex::default(),
            sender: broadcast::Sender::new(WAITING),
        }))
    }
}

impl Events {
    /// Tells that something has happened now.
    pub(crate) fn publish(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let mut past = self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Arc::new(Event {
            kind,
            action: action.into(),
            id: id.into(),
            attributes,
            // Under the lock, so that events are told in the order of their times.
            time: Timestamp::now(),
        });
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // An error means that nobody listens.
        let _ = self.0.sender.send(event);
    }

    /// Tells that things of a kind were removed because nobody used them, and how many bytes are free now.
    pub(crate) fn prune(&self, kind: EventKind, reclaimed: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        self.publish(kind, "prune", "", attributes);
    }

    /// Tells what happens to an image.
    pub(crate) fn image(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.publish(EventKind::Image, action, id, attributes);
    }

    /// What happened from then on, if that is asked for, and what happens from now on. Nothing is missed in between.
    pub(crate) fn listen(&self, since: Option<Timestamp>) -> EventStream {
        let past = self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |since: Timestamp| past.iter().filter(move |event| event.time >= since).cloned();
        EventStream {
            past: since.into_iter().flat_map(wanted).collect(),
            future: self.0.sender.subscribe(),
        }
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.0.sender.receiver_count()
    }
}

/// Events in the order of their times.
#[derive(Debug)]
pub struct EventStream {
    past: VecDeque<Arc<Event>>,
    future: broadcast::Receiver<Arc<Event>>,
}

impl EventStream {
    /// The next event that has happened already; `None` when there is none.
    pub fn past(&mut self) -> Option<Arc<Event>> {
        self.past.pop_front()
    }

    /// The next event; `None` when the engine has ended. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past() {
            return Some(event);
        }
        loop {
            match self.future.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener is too slow for the events");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(events: &Events, action: &str) {
        events.image(action, "id", "name");
    }

    #[tokio::test]
    async fn a_listener_gets_what_it_asks_for_of_the_past_and_all_of_the_future() {
        let events = Events::default();
        tell(&events, "pull");
        tell(&events, "tag");
        let mut late = events.listen(None);
        let mut early = events.listen(Some(Timestamp::UNIX_EPOCH));
        tell(&events, "untag");
        assert_eq!(late.next().await.unwrap().action, "untag");
        for action in ["pull", "tag", "untag"] {
            assert_eq!(early.next().await.unwrap().action, action);
        }
        let second = events.listen(Some(Timestamp::UNIX_EPOCH)).past[1].time;
        assert_eq!(events.listen(Some(second)).past.len(), 2);
        assert_eq!(events.listeners(), 2);
        drop((events, late));
        assert_eq!(early.next().await, None);
    }

    #[tokio::test]
    async fn the_past_is_bounded_and_a_slow_listener_misses_the_oldest() {
        let events = Events::default();
        let mut slow = events.listen(None);
        for number in 0..2 * WAITING {
            tell(&events, &number.to_string());
        }
        assert_eq!(events.listen(Some(Timestamp::UNIX_EPOCH)).past.len(), KEPT);
        assert_eq!(slow.next().await.unwrap().action, WAITING.to_string());
    }
}
