//! Ending a container from outside.

use std::sync::Arc;
use std::time::Duration;

use sandbox::SandboxError;

use crate::container::Live;
use crate::guest_spec::INIT;
use crate::{EngineError, Result, Status, signals};

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
    let config = &live.record.config;
    let signal = match signal.unwrap_or(&config.stop_signal) {
        "" => signals::TERM,
        signal => signals::parse(signal)?,
    };
    if !live.is_up() {
        return Err(EngineError::NotModified(live.id().to_owned()));
    }
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
    Ok(())
}

/// Sends a signal to a container's init. SIGKILL ends the container whatever its guest does.
pub(crate) async fn kill(live: &Arc<Live>, signal: &str) -> Result<()> {
    let signal = if signal.is_empty() {
        signals::KILL
    } else {
        signals::parse(signal)?
    };
    let action = format!("cannot kill container: {}: ", live.record.name);
    live.running(&action)?;
    if signal != signals::KILL {
        return send(live, signal, &action).await;
    }
    resume(live).await?;
    end(live).await;
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

/// Holds a container.
pub(crate) async fn pause(live: &Arc<Live>) -> Result<()> {
    let run = live.running("")?;
    if live.status() == Status::Paused {
        return Err(EngineError::Conflict(format!(
            "container {} is already paused",
            live.id()
        )));
    }
    let id = live.id().to_owned();
    run.sandbox.pause().await.map_err(|source| EngineError::Sandbox {
        action: "pause",
        id,
        source,
    })?;
    set_status(live, Status::Running, Status::Paused).await
}

/// Lets a held container go on.
pub(crate) async fn unpause(live: &Arc<Live>) -> Result<()> {
    live.running("")?;
    if live.status() != Status::Paused {
        return Err(EngineError::Conflict(format!(
            "container {} is not paused",
            live.id()
        )));
    }
    resume(live).await
}

/// Lets it go on if it is held, so that it can carry out what it is asked.
async fn resume(live: &Arc<Live>) -> Result<()> {
    if live.status() != Status::Paused {
        return Ok(());
    }
    let id = live.id().to_owned();
    let run = live.running("")?;
    run.sandbox
        .resume()
        .await
        .map_err(|source| EngineError::Sandbox {
            action: "resume",
            id,
            source,
        })?;
    set_status(live, Status::Paused, Status::Running).await
}

/// Changes the status, unless it has become another one meanwhile.
async fn set_status(live: &Live, from: Status, to: Status) -> Result<()> {
    live.change(|standing| {
        let status = &mut standing.record.state.status;
        if *status == from {
            *status = to;
        }
    });
    live.save().await
}

async fn send(live: &Live, signal: i32, action: &str) -> Result<()> {
    let run = live.running(action)?;
    let not_running = || EngineError::NotRunning {
        action: action.to_owned(),
        id: live.id().to_owned(),
    };
    run.sandbox
        .guest()
        .signal(INIT, signal)
        .await
        .map_err(|error| match error {
            SandboxError::Guest(error) if error.kind == sandbox::CallErrorKind::NotFound => not_running(),
            SandboxError::Ended(_) => not_running(),
            source => EngineError::Sandbox {
                action: "signal",
                id: live.id().to_owned(),
                source,
            },
        })
}
