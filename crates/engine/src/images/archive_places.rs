//! Places for archives that come or go.
//!
//! Each takes a thread for as long as its client takes, and the threads that ask the store are the same ones. So there are few
//! places, and a client that neither sends nor reads loses its own to those who wait for one.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many archives are read or written at the same time.
const PLACES: usize = 16;
/// How long a client may do nothing while others wait.
const SILENCE: Duration = Duration::from_secs(30);

/// All places. Clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct ArchivePlaces {
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    silence: Duration,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct ArchivePlace {
    places: ArchivePlaces,
    runtime: Handle,
    _held: OwnedSemaphorePermit,
}

/// Somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Default for ArchivePlaces {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(PLACES)),
            waiting: Arc::default(),
            silence: SILENCE,
        }
    }
}

impl ArchivePlaces {
    /// Waits for a place.
    pub(crate) async fn take(&self) -> ArchivePlace {
        let waiting = Waiting::begin(&self.waiting);
        let held = Arc::clone(&self.free).acquire_owned().await;
        drop(waiting);
        ArchivePlace {
            places: self.clone(),
            runtime: Handle::current(),
            _held: held.expect("the semaphore is never closed"),
        }
    }
}

impl ArchivePlace {
    /// Waits for something that the client does, on a thread that may block.
    ///
    /// # Errors
    /// `TimedOut` when it does nothing and others want its place.
    pub(crate) fn wait_for<T>(&self, deed: impl Future<Output = T>) -> io::Result<T> {
        self.runtime.block_on(async {
            let mut deed = pin!(deed);
            loop {
                match tokio::time::timeout(self.places.silence, &mut deed).await {
                    Ok(done) => return Ok(done),
                    Err(_) if self.places.waiting.load(Ordering::Relaxed) > 0 => {
                        return Err(too_silent(self.places.silence));
                    }
                    Err(_) => {}
                }
            }
        })
    }
}

fn too_silent(silence: Duration) -> io::Error {
    let message = format!(
        "the client neither sent nor read anything for {} seconds while other archives waited",
        silence.as_secs()
    );
    io::Error::new(io::ErrorKind::TimedOut, message)
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_client_keeps_its_place_until_another_wants_it() {
        let places = ArchivePlaces {
            silence: Duration::from_millis(20),
            ..ArchivePlaces::default()
        };
        let mut held = Vec::new();
        for _ in 0..PLACES {
            held.push(places.take().await);
        }
        let silent = held.pop().unwrap();
        let (done, given_up) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let waited = silent.wait_for(std::future::pending::<()>());
            let _ = done.send(waited.unwrap_err().kind());
        });
        let mut given_up = pin!(given_up);
        let patient = tokio::time::timeout(places.silence * 10, &mut given_up).await;
        assert!(patient.is_err(), "nobody wants the place");
        let next = places.take().await;
        assert_eq!(given_up.await.unwrap(), io::ErrorKind::TimedOut);
        drop(next);
        assert_eq!(places.waiting.load(Ordering::Relaxed), 0);
    }
}
