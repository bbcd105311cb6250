//! Datagrams to a port of the host, carried on to its container in a flow for each client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::debug;

use super::datagrams::{Datagrams, MAX_DATAGRAM};
use super::flows::Flows;
use super::{Limits, PAUSE};

/// Carries datagrams to `target`, and the answers back, for as long as this is polled.
pub(super) async fn serve(datagrams: Datagrams, target: SocketAddr, limits: Limits) {
    let datagrams = Arc::new(datagrams);
    let mut flows = Flows::new(Arc::clone(&datagrams), target, limits);
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut sweep = interval(sweep_period(&limits));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = datagrams.receive(&mut buffer) => match received {
                Ok((length, client)) => {
                    if let Some(datagram) = buffer.get(..length) {
                        flows.carry(client, datagram);
                    }
                }
                Err(error) => {
                    debug!(%target, %error, "a published port cannot receive for now");
                    sleep(PAUSE).await;
                }
            },
            _ = sweep.tick(), if !flows.is_empty() => flows.end_idle(),
        }
    }
}

/// How often idle flows are looked for: they live at most a quarter longer than they may.
fn sweep_period(limits: &Limits) -> Duration {
    (limits.idle.min(limits.unanswered) / 4).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests;
