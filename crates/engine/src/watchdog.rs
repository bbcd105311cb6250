//! Telling a guest the time of day, again and again, and finding one that answers no more.
//!
//! A guest's clock goes by itself, and does not know that the host's was set or that the host has slept.
//!
//! A guest that is silent is reported and not ended: a host that is overloaded, or a shared folder whose server is away, looks the same from here,
//! and the container may go on. Whoever wants its end has it with `stop` or `kill`, which do not depend on the guest.

use std::convert::Infallible;
use std::time::Duration;

use sandbox::{Guest, SandboxError};

use crate::container::Live;

/// How often a guest is told.
const INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the clock of a container's guest for as long as this is polled, and records when the guest does not answer.
pub(crate) async fn watch(live: &Live, guest: &Guest) -> Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        match guest.tell_time().await {
            Err(error @ SandboxError::Silent { .. }) => report(live, error.to_string()),
            Ok(()) => report(live, String::new()),
            // Its end, which is seen elsewhere.
            Err(_) => {}
        }
    }
}

/// Records a silence; an empty one is none.
fn report(live: &Live, silence: String) {
    if live.watch().borrow().record.state.error == silence {
        return;
    }
    tracing::warn!(
        container = live.id(),
        silence,
        "a guest has fallen silent, or speaks again"
    );
    live.change(|standing| standing.record.state.error = silence);
}
