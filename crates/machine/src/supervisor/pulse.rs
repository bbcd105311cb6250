//! Whether the VM still goes on: one that hangs takes every command on it along, without a word.

use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::link::Opener;
use crate::protocol::{Message, ProtocolError, Request};

/// How often the agent is asked.
pub(super) const EVERY: Duration = Duration::from_secs(15);
/// How long it may take to answer. An emulated VM with a lot to do, on a host with a lot to do, takes seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Wait until the agent, asked so often, does not answer for so long.
pub(super) async fn stops(opener: &Opener, every: Duration, patience: Duration) {
    loop {
        sleep(every).await;
        // A link that fails is noticed by others.
        if timeout(patience, feel(opener)).await.is_err() {
            return;
        }
    }
}

async fn feel(opener: &Opener) -> Result<(), ProtocolError> {
    let mut stream = opener.open().await.map_err(io::Error::other)?;
    Message::Request(Request::Pulse).send(&mut stream).await?;
    Message::receive(&mut stream).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use tokio::net::UnixStream;

    use super::*;
    use crate::link::{LinkEnd, link};

    /// An agent that answers so many times.
    async fn answer(channel: UnixStream, times: u32, asked: Arc<AtomicU32>) {
        let (_opener, mut accepted, driver) = link(channel, LinkEnd::Guest);
        tokio::spawn(driver);
        let mut unanswered = Vec::new();
        while let Some(mut stream) = accepted.recv().await {
            let request = Message::receive(&mut stream).await.unwrap();
            assert_eq!(request, Some(Message::Request(Request::Pulse)));
            if asked.fetch_add(1, Ordering::Relaxed) < times {
                Message::Alive.send(&mut stream).await.unwrap();
            } else {
                unanswered.push(stream);
            }
        }
    }

    #[tokio::test]
    async fn a_vm_that_answers_no_more_is_given_up_and_one_that_answers_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        tokio::spawn(answer(theirs, 5, asked.clone()));
        let (opener, _accepted, driver) = link(ours, LinkEnd::Host);
        tokio::spawn(driver);
        let (every, patience) = (Duration::from_millis(5), Duration::from_secs(2));
        let started = Instant::now();
        stops(&opener, every, patience).await;
        assert_eq!(asked.load(Ordering::Relaxed), 6);
        assert!(started.elapsed() >= 6 * every + patience);
    }
}
