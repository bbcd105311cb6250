//! What a process reads.

use std::sync::Arc;

use sandbox::InputStream;
use tokio::sync::{Mutex, watch};

/// The input of a process, before it is connected, while it is, and after.
#[derive(Debug)]
pub(crate) struct Stdin {
    slot: watch::Sender<Slot>,
}

#[derive(Clone, Debug)]
enum Slot {
    /// The process does not run yet.
    Waiting,
    /// Whoever writes holds the lock, so that what clients send is not mixed within a piece.
    Open(Arc<Mutex<InputStream>>),
    /// It reads no more.
    Closed,
}

impl Stdin {
    /// The input of a process that is not there yet.
    pub(crate) fn new() -> Stdin {
        Stdin {
            slot: watch::Sender::new(Slot::Waiting),
        }
    }

    /// Connects it: what waits to be written goes on.
    pub(crate) fn open(&self, stream: InputStream) {
        self.slot.send_replace(Slot::Open(Arc::new(Mutex::new(stream))));
    }

    /// The process has ended, or has no input.
    pub(crate) fn close(&self) {
        self.slot.send_replace(Slot::Closed);
    }

    /// Writes; waits while the process does not run yet, or does not read. Whether it could be written.
    pub(crate) async fn write(&self, bytes: &[u8]) -> bool {
        let Some(stream) = self.stream().await else {
            return false;
        };
        // A process that ends while it is written to may leave its connection open for a moment.
        let mut closed = self.slot.subscribe();
        tokio::select! {
            written = async { stream.lock().await.write(bytes).await } => written.is_ok(),
            _ = closed.wait_for(|slot| matches!(slot, Slot::Closed)) => false,
        }
    }

    /// The process reads end of file.
    pub(crate) async fn end(&self) {
        if let Some(stream) = self.stream().await {
            // The only failure is that nobody reads.
            let _ = stream.lock().await.end().await;
        }
    }

    async fn stream(&self) -> Option<Arc<Mutex<InputStream>>> {
        let mut slot = self.slot.subscribe();
        let slot = slot.wait_for(|slot| !matches!(slot, Slot::Waiting)).await.ok()?;
        match &*slot {
            Slot::Open(stream) => Some(stream.clone()),
            Slot::Waiting | Slot::Closed => None,
        }
    }
}
