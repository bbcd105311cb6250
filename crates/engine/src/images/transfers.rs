//! Transfers that several clients wait for: each is done once, and given up when nobody waits any more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::task::AbortHandle;

use super::failure::ImageFailure;
use super::progress::{Board, ImageEvent, Reader};

/// How a transfer ends.
type End<T> = Result<T, ImageFailure>;

/// The transfers under way, by what they bring.
#[derive(Debug)]
pub(crate) struct Transfers<K, T> {
    running: Mutex<HashMap<K, Weak<Transfer<T>>>>,
}

/// One transfer. It ends with its last follower.
#[derive(Debug)]
pub(crate) struct Transfer<T> {
    board: Arc<Board<End<T>>>,
    task: AbortHandle,
}

/// A client that waits for a transfer.
#[derive(Debug)]
pub(crate) struct Follower<T> {
    transfer: Arc<Transfer<T>>,
    reader: Reader,
}

impl<K, T> Default for Transfers<K, T> {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash, T: Clone + Send + 'static> Transfers<K, T> {
    /// Joins the transfer with this key, or starts it. `work` tells the board how it goes.
    pub(crate) fn join<F>(&self, key: K, work: impl FnOnce(Arc<Board<End<T>>>) -> F) -> Follower<T>
    where
        F: Future<Output = End<T>> + Send + 'static,
    {
        let mut running = self.running();
        running.retain(|_, transfer| transfer.strong_count() > 0);
        let transfer = match running.entry(key) {
            Entry::Occupied(mut entry) => match entry.get().upgrade() {
                // One that has ended may be older than what is asked for now.
                Some(transfer) if !transfer.task.is_finished() => transfer,
                _ => {
                    let transfer = Transfer::start(work);
                    entry.insert(Arc::downgrade(&transfer));
                    transfer
                }
            },
            Entry::Vacant(entry) => {
                let transfer = Transfer::start(work);
                entry.insert(Arc::downgrade(&transfer));
                transfer
            }
        };
        Follower::new(transfer)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<K, Weak<Transfer<T>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Send + 'static> Transfer<T> {
    fn start<F>(work: impl FnOnce(Arc<Board<End<T>>>) -> F) -> Arc<Self>
    where
        F: Future<Output = End<T>> + Send + 'static,
    {
        let board = Arc::new(Board::new());
        let work = work(board.clone());
        let told = board.clone();
        let task = tokio::spawn(async move {
            // A panic must not leave the followers waiting.
            let end = tokio::spawn(work);
            let guard = AbortOnDrop(end.abort_handle());
            let end = end
                .await
                .unwrap_or_else(|error| Err(ImageFailure::internal(error.to_string())));
            drop(guard);
            told.end(end);
        });
        Arc::new(Self {
            board,
            task: task.abort_handle(),
        })
    }
}

/// Ends a task with the one that waits for it.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Drop for Transfer<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: Clone + Send + 'static> Follower<T> {
    fn new(transfer: Arc<Transfer<T>>) -> Self {
        let reader = transfer.board.reader();
        Self { transfer, reader }
    }

    /// A transfer that only this client waits for.
    pub(crate) fn alone<F>(work: impl FnOnce(Arc<Board<End<T>>>) -> F) -> Self
    where
        F: Future<Output = End<T>> + Send + 'static,
    {
        Self::new(Transfer::start(work))
    }

    /// What happens next, then how the transfer ended.
    pub(crate) async fn next(&mut self) -> Result<Vec<ImageEvent>, End<T>> {
        self.transfer.board.next(&mut self.reader).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::progress::LayerState;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    async fn end(mut follower: Follower<u32>) -> (usize, End<u32>) {
        let mut events = 0;
        loop {
            match follower.next().await {
                Ok(news) => events += news.len(),
                Err(end) => return (events, end),
            }
        }
    }

    #[tokio::test]
    async fn two_clients_of_one_transfer_share_its_work_and_its_progress() {
        let transfers = Transfers::<&str, u32>::default();
        let started = AtomicUsize::new(0);
        let (go, gone) = oneshot::channel::<()>();
        let mut gone = Some(gone);
        let mut join = || {
            transfers.join("a", |board| {
                started.fetch_add(1, Ordering::Relaxed);
                let gone = gone.take();
                async move {
                    board.layer("l", LayerState::PullingFsLayer);
                    gone.unwrap().await.unwrap();
                    Ok(7)
                }
            })
        };
        let (first, second) = (join(), join());
        go.send(()).unwrap();
        assert_eq!(end(first).await, (1, Ok(7)));
        assert_eq!(end(second).await, (1, Ok(7)));
        assert_eq!(started.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_transfer_goes_on_while_anybody_waits_and_ends_with_the_last() {
        let transfers = Transfers::<&str, u32>::default();
        let (alive, ended) = oneshot::channel::<()>();
        let mut alive = Some(alive);
        let mut join = || {
            let alive = alive.take();
            transfers.join("a", |board| async move {
                board.layer("l", LayerState::Waiting);
                std::future::pending::<()>().await;
                drop(alive);
                Ok(1)
            })
        };
        let (first, mut second) = (join(), join());
        drop(first);
        assert_eq!(second.next().await.unwrap().len(), 1, "the other still follows");
        drop(second);
        assert!(ended.await.is_err(), "what the work held is dropped");
    }

    #[tokio::test]
    async fn a_panic_is_the_end_and_not_a_wait_for_ever() {
        let follower = Follower::<u32>::alone(|_| async { panic!("no") });
        assert!(end(follower).await.1.is_err());
    }

    #[tokio::test]
    async fn a_transfer_that_has_ended_is_not_joined() {
        let transfers = Transfers::<&str, u32>::default();
        for expected in [1, 2] {
            let follower = transfers.join("a", |_| async move { Ok(expected) });
            assert_eq!(end(follower).await.1, Ok(expected));
        }
    }
}
