//! Work in the background that ends when nobody wants it any more.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::task::AbortHandle;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future that runs until this is dropped, and is gone then with all that it held.
///
/// An aborted task is only gone when the runtime comes round to it; until then its sockets would keep a port from the next.
pub(super) struct Background {
    work: Arc<Mutex<Option<Work>>>,
    task: AbortHandle,
}

impl Background {
    /// Starts it; within a tokio runtime.
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let work: Arc<Mutex<Option<Work>>> = Arc::new(Mutex::new(Some(Box::pin(work))));
        let polled = Arc::clone(&work);
        let task = tokio::spawn(poll_fn(move |context| match lock(&polled).as_mut() {
            Some(work) => work.as_mut().poll(context),
            None => Poll::Ready(()),
        }));
        Self {
            work,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let work = lock(&self.work).take();
        drop(work);
        self.task.abort();
    }
}

/// A panic while somebody else had the lock is no reason for another.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_runs_and_is_gone_when_it_is_dropped() {
        let held = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&held);
        let background = Background::spawn(async move {
            loop {
                *lock(&counter) += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        while *lock(&held) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(background);
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "it is gone before anything else runs"
        );
    }
}
