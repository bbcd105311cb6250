//! How far a transfer is, for any number of clients that follow it, each at its own pace.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What a client is told of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageEvent {
    /// A line of text, about something (a tag) or about all of it.
    Line {
        /// What it is about; empty for all of it.
        about: String,
        /// The text.
        text: String,
    },
    /// How a layer stands.
    Layer {
        /// The first 12 hexadecimal digits of its digest; empty for one that has none yet.
        layer: String,
        /// How it stands.
        state: LayerState,
    },
    /// What a push has put into the registry.
    Pushed {
        /// The tag, or the digest if it was pushed by digest.
        tag: String,
        /// The digest of the manifest.
        digest: String,
        /// The size of the manifest in bytes.
        size: u64,
    },
    /// An image came out of an archive.
    Loaded {
        /// Its identifier: `sha256:HEX`.
        id: String,
        /// The names that it got, as people write them; may be empty.
        names: Vec<String>,
    },
    /// An image was made of a root file system; its identifier.
    Imported(String),
}

/// How a layer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// It will be pulled.
    PullingFsLayer,
    /// It waits until others are done.
    Waiting,
    /// So much of it has come.
    Downloading(Bytes),
    /// All of it has come.
    DownloadComplete,
    /// It is in the store.
    PullComplete,
    /// It was there before.
    AlreadyExists,
    /// It will be pushed.
    Preparing,
    /// So much of it is with the registry.
    Pushing(Bytes),
    /// The registry has it now.
    Pushed,
    /// The registry had it before.
    LayerAlreadyExists,
    /// The registry had it in another repository.
    MountedFrom(String),
    /// So much of it has been read from an archive.
    Loading(Bytes),
    /// It is in the store, after so much was read.
    Loaded(Bytes),
    /// So much of a root file system has come.
    Importing(Bytes),
    /// All of it has come.
    Imported(Bytes),
}

/// How much of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What is done.
    pub current: u64,
    /// All of it; 0 if that is not known.
    pub total: u64,
}

impl LayerState {
    /// Whether only the newest such state of a layer is worth telling.
    fn moves(&self) -> bool {
        matches!(
            self,
            Self::Downloading(_) | Self::Pushing(_) | Self::Loading(_) | Self::Importing(_)
        )
    }
}

/// How often clients are told that a layer moves.
const MOVE_INTERVAL: Duration = Duration::from_millis(100);

/// What has happened in one transfer. It is bounded by the number of layers: of those that move only the newest state
/// is kept.
#[derive(Debug)]
pub(crate) struct Board<T> {
    standing: Mutex<Standing<T>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Standing<T> {
    events: Vec<ImageEvent>,
    moving: BTreeMap<String, Move>,
    version: u64,
    end: Option<T>,
}

#[derive(Debug)]
struct Move {
    version: u64,
    told: Instant,
    state: LayerState,
}

/// How far a client has read.
#[derive(Debug, Default)]
struct Cursor {
    events: usize,
    version: u64,
}

/// A client of a board.
#[derive(Debug)]
pub(crate) struct Reader {
    cursor: Cursor,
    changed: watch::Receiver<u64>,
}

impl<T: Clone> Board<T> {
    pub(crate) fn new() -> Self {
        Self {
            standing: Mutex::new(Standing {
                events: Vec::new(),
                moving: BTreeMap::new(),
                version: 0,
                end: None,
            }),
            changed: watch::Sender::new(0),
        }
    }

    /// Tells how a layer stands.
    pub(crate) fn layer(&self, layer: &str, state: LayerState) {
        let mut standing = self.standing();
        let version = standing.version + 1;
        if state.moves() {
            let now = Instant::now();
            match standing.moving.get_mut(layer) {
                Some(before) if now.duration_since(before.told) < MOVE_INTERVAL => {
                    before.state = state;
                    return;
                }
                _ => {
                    let told = Move {
                        version,
                        told: now,
                        state,
                    };
                    standing.moving.insert(layer.to_owned(), told);
                }
            }
        } else {
            standing.moving.remove(layer);
            standing.events.push(ImageEvent::Layer {
                layer: layer.to_owned(),
                state,
            });
        }
        self.tell(standing, version);
    }

    /// Tells something else.
    pub(crate) fn event(&self, event: ImageEvent) {
        let mut standing = self.standing();
        standing.events.push(event);
        let version = standing.version + 1;
        self.tell(standing, version);
    }

    /// Ends the transfer.
    pub(crate) fn end(&self, end: T) {
        let mut standing = self.standing();
        standing.end = Some(end);
        let version = standing.version + 1;
        self.tell(standing, version);
    }

    /// A client that is told everything from the beginning.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            cursor: Cursor::default(),
            changed: self.changed.subscribe(),
        }
    }

    /// What is new for a client; waits until there is something. After the last event comes the end.
    pub(crate) async fn next(&self, reader: &mut Reader) -> Result<Vec<ImageEvent>, T> {
        loop {
            // Looked at before the board is: a change in between wakes.
            reader.changed.mark_unchanged();
            {
                let standing = self.standing();
                let news = standing.since(&mut reader.cursor);
                if !news.is_empty() {
                    return Ok(news);
                }
                if let Some(end) = &standing.end {
                    return Err(end.clone());
                }
            }
            // The board is alive, so that its sender is.
            let _ = reader.changed.changed().await;
        }
    }

    fn tell(&self, mut standing: MutexGuard<'_, Standing<T>>, version: u64) {
        standing.version = version;
        drop(standing);
        self.changed.send_replace(version);
    }

    fn standing(&self) -> MutexGuard<'_, Standing<T>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Standing<T> {
    fn since(&self, cursor: &mut Cursor) -> Vec<ImageEvent> {
        let mut news: Vec<ImageEvent> = self.events.get(cursor.events..).unwrap_or_default().to_vec();
        let moved = self
            .moving
            .iter()
            .filter(|(_, moved)| moved.version > cursor.version);
        news.extend(moved.map(|(layer, moved)| ImageEvent::Layer {
            layer: layer.clone(),
            state: moved.state.clone(),
        }));
        cursor.events = self.events.len();
        cursor.version = self.version;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(layer: &str, state: LayerState) -> ImageEvent {
        ImageEvent::Layer {
            layer: layer.to_owned(),
            state,
        }
    }

    fn downloading(current: u64) -> LayerState {
        LayerState::Downloading(Bytes { current, total: 9 })
    }

    #[tokio::test]
    async fn a_client_that_comes_late_is_told_all_and_then_the_end() {
        let board = Board::new();
        board.layer("a", LayerState::PullingFsLayer);
        board.layer("a", downloading(3));
        let mut early = board.reader();
        assert_eq!(
            board.next(&mut early).await.unwrap(),
            [layer("a", LayerState::PullingFsLayer), layer("a", downloading(3))]
        );
        board.layer("a", LayerState::PullComplete);
        board.end("done");
        assert_eq!(
            board.next(&mut early).await.unwrap(),
            [layer("a", LayerState::PullComplete)]
        );
        assert_eq!(board.next(&mut early).await, Err("done"));
        let mut late = board.reader();
        assert_eq!(
            board.next(&mut late).await.unwrap(),
            [
                layer("a", LayerState::PullingFsLayer),
                layer("a", LayerState::PullComplete)
            ]
        );
        assert_eq!(board.next(&mut late).await, Err("done"));
    }

    #[tokio::test]
    async fn a_slow_client_is_told_the_newest_of_what_moves() {
        let board = Board::<()>::new();
        for current in 0..100_000 {
            board.layer("a", downloading(current));
        }
        let mut reader = board.reader();
        assert_eq!(
            board.next(&mut reader).await.unwrap(),
            [layer("a", downloading(99_999))]
        );
        assert!(board.standing().events.is_empty(), "what moves is not kept");
    }

    #[tokio::test]
    async fn a_client_that_waits_is_woken() {
        let board = std::sync::Arc::new(Board::<()>::new());
        let mut reader = board.reader();
        let following = board.clone();
        let waiting = tokio::spawn(async move { following.next(&mut reader).await });
        tokio::task::yield_now().await;
        board.layer("a", LayerState::Waiting);
        assert_eq!(waiting.await.unwrap().unwrap(), [layer("a", LayerState::Waiting)]);
    }
}
