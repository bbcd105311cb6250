//! Holding a container.
//!
//! Its processes are held by the guest, in their cgroup, rather than its vCPUs by the VMM: the agent goes on, so that
//! files can be copied, signals be sent and statistics be read, as Docker's users expect of a paused container.

use std::sync::Arc;
use std::time::Duration;

use sandbox::Guest;

use crate::container::Live;
use crate::{EngineError, Result, Status};

/// How long processes may take to come out of the kernel.
const HOLD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often they are looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Holds a container.
pub(crate) async fn pause(live: &Arc<Live>) -> Result<()> {
    let id = live.id().to_owned();
    match live.status() {
        Status::Paused => {
            return Err(EngineError::Conflict(format!("container {id} is already paused")));
        }
        Status::Restarting => {
            return Err(EngineError::Restarting(id));
        }
        _ => {}
    }
    let guest = live.running("")?.sandbox.guest().clone();
    let held = tokio::time::timeout(HOLD_TIMEOUT, hold(&guest)).await;
    let failure = match held {
        Ok(Ok(())) => {
            set_status(live, Status::Running, Status::Paused).await?;
            live.tell("pause", []);
            return Ok(());
        }
        Ok(Err(source)) => EngineError::Sandbox {
            action: "pause",
            id,
            source,
        },
        Err(_) => EngineError::Internal(format!(
            "cannot pause container {id}: a process of it does not come out of the kernel within {} seconds",
            HOLD_TIMEOUT.as_secs()
        )),
    };
    // What it says does not matter any more.
    let _ = guest.freeze(false).await;
    Err(failure)
}

/// Lets a held container go on.
pub(crate) async fn unpause(live: &Arc<Live>) -> Result<()> {
    if live.status() != Status::Paused {
        // Docker takes it for a failure of its own, and clients know it as that.
        return Err(EngineError::Internal(format!(
            "Container {} is not paused",
            live.id()
        )));
    }
    resume(live).await
}

/// Lets it go on if it is held, so that it can carry out what it is asked.
pub(crate) async fn resume(live: &Arc<Live>) -> Result<()> {
    if live.status() != Status::Paused {
        return Ok(());
    }
    let run = live.running("")?;
    run.sandbox
        .guest()
        .freeze(false)
        .await
        .map_err(|source| EngineError::Sandbox {
            action: "resume",
            id: live.id().to_owned(),
            source,
        })?;
    set_status(live, Status::Paused, Status::Running).await?;
    live.tell("unpause", []);
    Ok(())
}

/// Has a guest hold its container, and returns when it does.
pub(crate) async fn hold(guest: &Guest) -> Result<(), sandbox::SandboxError> {
    while !guest.freeze(true).await? {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
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
