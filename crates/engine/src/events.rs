//! What happens, for those who listen.
//!
//! Everything that an engine tells goes through [`Events::publish`]. The last of it is kept in memory, so that who comes
//! a little late can ask for it; nothing of it is written down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

/// How many events are told again to those who ask for the past, as Docker does.
const PAST: usize = 256;
/// How many events are kept for listeners that are slow. One that is slower misses the oldest.
const KEPT: usize = 1024;
/// How many bytes those may have together: an event has all labels of its container.
const KEPT_BYTES: usize = 8 << 20;
/// What an event or an attribute takes besides its texts, in bytes.
const OVERHEAD: usize = 128;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
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
    told: Arc<Mutex<Told>>,
    /// Changes when something was told.
    news: watch::Sender<()>,
}

/// The last of what was told.
#[derive(Debug, Default)]
struct Told {
    events: VecDeque<Arc<Event>>,
    /// The number of the first of them; the first of all has 0.
    first: u64,
    bytes: usize,
}

impl Default for Events {
    fn default() -> Events {
        Events(Arc::new(Shared {
            told: Arc::default(),
            news: watch::Sender::new(()),
        }))
    }
}

impl Event {
    fn bytes(&self) -> usize {
        let attributes = self.attributes.iter();
        let texts = attributes.map(|(name, value)| OVERHEAD + name.len() + value.len());
        OVERHEAD + self.action.len() + self.id.len() + texts.sum::<usize>()
    }
}

impl Told {
    fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push_back(Arc::new(event));
        // The newest is told, however large it is.
        while self.events.len() > 1 && (self.events.len() > KEPT || self.bytes > KEPT_BYTES) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.bytes();
                self.first += 1;
            }
        }
    }

    /// The number that the next event will have.
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The number of the first event of the past that is not older.
    fn since(&self, since: Timestamp) -> u64 {
        let older = self.events.len().saturating_sub(PAST);
        let wanted = self
            .events
            .iter()
            .skip(older)
            .position(|event| event.time >= since);
        wanted.map_or(self.next(), |place| self.first + (older + place) as u64)
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
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
        lock(&self.0.told).push(Event {
            kind,
            action: action.into(),
            id: id.into(),
            attributes,
            // Under the lock, so that events are told in the order of their times.
            time: Timestamp::now(),
        });
        self.0.news.send_replace(());
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
        let told = lock(&self.0.told);
        EventStream {
            next: since.map_or(told.next(), |since| told.since(since)),
            told: self.0.told.clone(),
            news: self.0.news.subscribe(),
        }
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.0.news.receiver_count()
    }
}

/// Events in the order of their times.
#[derive(Debug)]
pub struct EventStream {
    told: Arc<Mutex<Told>>,
    /// The number of the next event.
    next: u64,
    news: watch::Receiver<()>,
}

impl EventStream {
    /// The next event that has happened already; `None` when there is none.
    pub fn past(&mut self) -> Option<Arc<Event>> {
        let told = lock(&self.told);
        if self.next < told.first {
            let missed = told.first - self.next;
            tracing::warn!(missed, "a listener is too slow for the events");
            self.next = told.first;
        }
        let place = usize::try_from(self.next - told.first).ok()?;
        let event = told.events.get(place)?.clone();
        self.next += 1;
        Some(event)
    }

    /// The next event; `None` when the engine has ended. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            if let Some(event) = self.past() {
                return Some(event);
            }
            self.news.changed().await.ok()?;
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
        let mut all = events.listen(Some(Timestamp::UNIX_EPOCH));
        let second = (all.past(), all.past()).1.unwrap().time;
        drop(all);
        assert_eq!(count(events.listen(Some(second))), 2);
        assert_eq!(events.listeners(), 2);
        drop((events, late));
        assert_eq!(early.next().await, None);
    }

    fn count(mut events: EventStream) -> usize {
        std::iter::from_fn(|| events.past()).count()
    }

    #[tokio::test]
    async fn the_past_is_bounded_and_a_slow_listener_misses_the_oldest() {
        let events = Events::default();
        let mut slow = events.listen(None);
        for number in 0..2 * KEPT {
            tell(&events, &number.to_string());
        }
        assert_eq!(count(events.listen(Some(Timestamp::UNIX_EPOCH))), PAST);
        assert_eq!(slow.next().await.unwrap().action, KEPT.to_string());
    }

    #[tokio::test]
    async fn events_with_many_labels_are_kept_as_far_as_they_fit() {
        let events = Events::default();
        let mut slow = events.listen(None);
        let large = BTreeMap::from([("label".to_owned(), "x".repeat(1 << 20))]);
        for number in 0..100 {
            events.publish(EventKind::Container, number.to_string(), "id", large.clone());
        }
        assert_eq!(count(events.listen(Some(Timestamp::UNIX_EPOCH))), 7);
        assert_eq!(slow.next().await.unwrap().action, "93");
        let huge = BTreeMap::from([("label".to_owned(), "x".repeat(2 * KEPT_BYTES))]);
        events.publish(EventKind::Container, "huge", "id", huge);
        assert_eq!(slow.next().await.unwrap().action, "huge");
    }
}
