//! Ending a container from outside.

use std::sync::Arc;
use std::time::Duration;

use sandbox::SandboxError;

use crate::container::Live;
use crate::guest_spec::INIT;
use crate::pause::resume;
use crate::{EngineError, Result, restart, signals};

/// Docker's time from the stop signal to SIGKILL.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the guest may take to carry out SIGKILL before its microVM is ended.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stop waits for a container to end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopTimeout {
    /// This long.
    After(Duration),
    /// As long as it takes.
    Never,
}

/// Asks a container to end and ends it after `timeout`.
pub(crate) async fn stop(live: &Arc<Live>, signal: Option<&str>, timeout: Option<StopTimeout>) -> Result<()> {
    let record = live.record();
    let config = &record.config;
    let signal = match signal.unwrap_or(&config.stop_signal) {
        "" => signals::TERM,
        signal => signals::parse(signal)?,
    };
    if restart::give_up(live).await? {
        live.tell("stop", []);
        return Ok(());
    }
    if !live.is_up() {
        return Err(EngineError::NotModified(live.id().to_owned()));
    }
    is_wanted(live);
    let own = config
        .stop_timeout
        .map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
    let timeout = timeout.unwrap_or(StopTimeout::After(own));
    resume(live).await?;
    if let Err(error) = send(live, signal, "").await {
        // It may have ended by itself; if not, it is killed below.
        tracing::debug!(container = live.id(), %error, "the stop signal was not taken");
    }
    match timeout {
        StopTimeout::Never => live.down().await,
        StopTimeout::After(timeout) => {
            if tokio::time::timeout(timeout, live.down()).await.is_err() {
                end(live).await;
            }
        }
    }
    // It may have ended by itself a moment before, and be about to be started again.
    restart::give_up(live).await?;
    live.tell("stop", []);
    Ok(())
}

/// Notes that somebody wants its end, so that it is not started again by itself.
fn is_wanted(live: &Live) {
    live.change(|standing| standing.record.state.stopped = true);
}

/// Sends a signal to a container's init. SIGKILL ends the container whatever its guest does.
pub(crate) async fn kill(live: &Arc<Live>, signal: &str) -> Result<()> {
    let signal = if signal.is_empty() {
        signals::KILL
    } else {
        signals::parse(signal)?
    };
    let record = live.record();
    let action = format!("cannot kill container: {}: ", record.name);
    if restart::give_up(live).await? {
        return Ok(());
    }
    live.running(&action)?;
    // A container that has a stop signal of its own takes others for what they are.
    let stop_signal = &record.config.stop_signal;
    let ends = signal == signals::KILL || stop_signal.is_empty() || signals::parse(stop_signal)? == signal;
    if ends {
        is_wanted(live);
    }
    if signal != signals::KILL {
        send(live, signal, &action).await?;
        // What it does about the signal it does when it goes on.
        return if ends { resume(live).await } else { Ok(()) };
    }
    resume(live).await?;
    end(live).await;
    restart::give_up(live).await?;
    Ok(())
}

/// Ends a container, and returns when it has ended.
pub(crate) async fn end(live: &Arc<Live>) {
    let killed = async {
        // It may have ended already, or its guest may have.
        let _ = send(live, signals::KILL, "").await;
        live.down().await;
    };
    if tokio::time::timeout(KILL_TIMEOUT, killed).await.is_err() {
        if let Some(run) = live.run() {
            tracing::warn!(
                container = live.id(),
                "the guest does not carry out SIGKILL: its microVM is ended"
            );
            run.sandbox.stop().await;
        }
        live.down().await;
    }
}

async fn send(live: &Live, signal: i32, action: &str) -> Result<()> {
    let run = live.running(action)?;
    let not_running = || EngineError::NotRunning {
        action: action.to_owned(),
        id: live.id().to_owned(),
    };
    let sent = run.sandbox.guest().signal(INIT, signal).await;
    if sent.is_ok() {
        live.tell("kill", [("signal", signal.to_string())]);
    }
    sent.map_err(|error| match error {
        SandboxError::Guest(error) if error.kind == sandbox::CallErrorKind::NotFound => not_running(),
        SandboxError::Ended(_) => not_running(),
        source => EngineError::Sandbox {
            action: "signal",
            id: live.id().to_owned(),
            source,
        },
    })
}
