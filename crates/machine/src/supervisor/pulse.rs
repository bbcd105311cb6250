//! Whether the VM still goes on: one that hangs takes every command on it along, without a word.

use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::link::Opener;
use crate::protocol::{Message, ProtocolError, Request};

/// How often the agent is asked.
const EVERY: Duration = Duration::from_secs(15);
/// How long it may take to answer. An emulated VM with a lot to do, on a host with a lot to do, takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Wait until the agent does not answer for a time, and say how many seconds that was.
pub(super) async fn stops(opener: &Opener) -> u64 {
    loop {
        sleep(EVERY).await;
        // A link that fails is noticed by others.
        if timeout(PATIENCE, feel(opener)).await.is_err() {
            return PATIENCE.as_secs();
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

    use tokio::net::UnixStream;
    use tokio::time::Instant;

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

    #[tokio::test(start_paused = true)]
    async fn a_vm_that_answers_no_more_is_given_up_and_one_that_answers_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        tokio::spawn(answer(theirs, 5, asked.clone()));
        let (opener, _accepted, driver) = link(ours, LinkEnd::Host);
        tokio::spawn(driver);
        let started = Instant::now();
        assert_eq!(stops(&opener).await, PATIENCE.as_secs());
        assert_eq!(asked.load(Ordering::Relaxed), 6);
        assert_eq!(started.elapsed().as_secs(), (6 * EVERY + PATIENCE).as_secs());
    }
}
