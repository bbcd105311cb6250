//! One process's output to any number of clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use crate::{OutputChunk, OutputStream};

/// How many bytes wait for a client that reads slowly before the process has to wait, too.
const CLIENT_WINDOW: usize = 256 * 1024;

/// Hands the output of a process to its clients. A slow client slows the process, until [`Hub::release`].
#[derive(Debug, Default)]
pub(crate) struct Hub {
    clients: Mutex<Vec<Arc<Client>>>,
    last_id: AtomicU64,
}

#[derive(Debug)]
struct Client {
    id: u64,
    stdout: bool,
    stderr: bool,
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
}

/// A piece of output and where in its stream it begins.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) chunk: OutputChunk,
}

/// The receiving end of a client.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) id: u64,
    pieces: mpsc::UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
}

impl Hub {
    /// Adds a client.
    pub(crate) fn subscribe(&self, stdout: bool, stderr: bool) -> Subscription {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let (sender, pieces) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(CLIENT_WINDOW));
        self.clients().push(Arc::new(Client {
            id,
            stdout,
            stderr,
            pieces: sender,
            room: room.clone(),
        }));
        Subscription { id, pieces, room }
    }

    /// Hands output to every client that wants it, and waits for those that have no room.
    pub(crate) async fn send(&self, stream: OutputStream, offset: u64, bytes: &Bytes) {
        // Copied, for no lock is held while a client is waited for.
        let clients = self.clients().clone();
        for client in clients {
            let wanted = match stream {
                OutputStream::Stdout => client.stdout,
                OutputStream::Stderr => client.stderr,
            };
            if !wanted {
                continue;
            }
            // A closed semaphore means that the client is released, or gone.
            if let Ok(room) = client.room.acquire_many(bytes.len() as u32).await {
                room.forget();
            }
            let piece = Piece {
                offset,
                chunk: OutputChunk {
                    stream,
                    bytes: bytes.clone(),
                },
            };
            if client.pieces.send(piece).is_err() {
                self.remove(client.id);
            }
        }
    }

    /// Lets what is still to come wait for clients without a bound: the process has ended, so that is at most what its
    /// pipes, the agent and the connections hold, and its microVM need not wait for a slow client.
    pub(crate) fn release(&self) {
        for client in self.clients().iter() {
            client.room.close();
        }
    }

    /// Ends a client's output after what was handed to it.
    pub(crate) fn remove(&self, id: u64) {
        self.clients().retain(|client| client.id != id);
    }

    /// Ends every client's output after what was handed to it.
    pub(crate) fn close(&self) {
        self.clients().clear();
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next piece; `None` when there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        let piece = self.pieces.recv().await?;
        if !self.room.is_closed() {
            self.room.add_permits(piece.chunk.bytes.len());
        }
        Some(piece)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Nobody has to wait for a client that is gone.
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::OutputStream::{Stderr, Stdout};

    const SOON: Duration = Duration::from_millis(50);

    async fn text(subscription: &mut Subscription) -> String {
        let mut text = String::new();
        while let Some(piece) = subscription.next().await {
            text += std::str::from_utf8(&piece.chunk.bytes).unwrap();
        }
        text
    }

    #[tokio::test]
    async fn each_client_gets_the_streams_it_wants_in_order() {
        let hub = Hub::default();
        let mut all = hub.subscribe(true, true);
        let mut errors = hub.subscribe(false, true);
        hub.send(Stdout, 0, &Bytes::from_static(b"a")).await;
        hub.send(Stderr, 0, &Bytes::from_static(b"b")).await;
        hub.send(Stdout, 1, &Bytes::from_static(b"c")).await;
        hub.close();
        assert_eq!(text(&mut all).await, "abc");
        assert_eq!(text(&mut errors).await, "b");
    }

    #[tokio::test]
    async fn a_slow_client_makes_the_process_wait_until_it_reads() {
        let hub = Hub::default();
        let mut slow = hub.subscribe(true, false);
        let chunk = Bytes::from(vec![b'x'; CLIENT_WINDOW / 2]);
        hub.send(Stdout, 0, &chunk).await;
        hub.send(Stdout, 0, &chunk).await;
        assert!(timeout(SOON, hub.send(Stdout, 0, &chunk)).await.is_err());
        slow.next().await.unwrap();
        timeout(SOON, hub.send(Stdout, 0, &chunk)).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_goes_away_sets_the_process_free() {
        let hub = Hub::default();
        let slow = hub.subscribe(true, false);
        let chunk = Bytes::from(vec![b'x'; CLIENT_WINDOW]);
        hub.send(Stdout, 0, &chunk).await;
        let waiting = hub.send(Stdout, 0, &chunk);
        tokio::pin!(waiting);
        assert!(timeout(SOON, &mut waiting).await.is_err());
        drop(slow);
        timeout(SOON, waiting).await.unwrap();
        assert!(hub.clients().is_empty());
    }

    #[tokio::test]
    async fn a_released_slow_client_still_gets_every_byte() {
        let hub = Hub::default();
        let mut slow = hub.subscribe(true, false);
        let chunk = Bytes::from(vec![b'x'; CLIENT_WINDOW]);
        hub.send(Stdout, 0, &chunk).await;
        hub.release();
        timeout(SOON, hub.send(Stdout, 0, &chunk)).await.unwrap();
        hub.close();
        assert_eq!(text(&mut slow).await.len(), 2 * CLIENT_WINDOW);
    }

    #[tokio::test]
    async fn a_removed_client_reads_to_its_end() {
        let hub = Hub::default();
        let mut client = hub.subscribe(true, true);
        hub.send(Stdout, 0, &Bytes::from_static(b"last")).await;
        hub.remove(client.id);
        hub.send(Stdout, 4, &Bytes::from_static(b"never")).await;
        assert_eq!(text(&mut client).await, "last");
    }
}
