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

/// Who holds a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// A user, until it is to go on.
    User,
    /// The engine, for as long as it works on it.
    Engine,
}

/// Holds a container.
pub(crate) async fn pause(live: &Arc<Live>) -> Result<()> {
    pause_for(live, Holder::User).await
}

async fn pause_for(live: &Arc<Live>, holder: Holder) -> Result<()> {
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
            set_status(live, Status::Running, Status::Paused, holder).await?;
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
    set_status(live, Status::Paused, Status::Running, Holder::User).await?;
    live.tell("unpause", []);
    Ok(())
}

/// A container that is held while something is done with it. It goes on when this is ended or dropped, and when another
/// engine finds it so; unless a user has held it meanwhile.
#[derive(Debug)]
pub(crate) struct BriefPause(Option<Arc<Live>>);

impl BriefPause {
    /// `None` for a container that does not run, or that is held already.
    pub(crate) async fn begin(live: &Arc<Live>) -> Result<Option<Self>> {
        if live.status() != Status::Running {
            return Ok(None);
        }
        // Who does not wait for the pause leaves no held container behind.
        let pause = Self(Some(live.clone()));
        match pause_for(live, Holder::Engine).await {
            Ok(()) => Ok(Some(pause)),
            // It has ended by itself.
            Err(EngineError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn end(mut self) {
        if let Some(live) = self.0.take() {
            let_go(&live).await;
        }
    }
}

impl Drop for BriefPause {
    fn drop(&mut self) {
        if let Some(live) = self.0.take() {
            tokio::spawn(async move { let_go(&live).await });
        }
    }
}

/// Lets a container go on that the engine held.
async fn let_go(live: &Arc<Live>) {
    let held_by_user = {
        let standing = live.watch();
        let record = &standing.borrow().record;
        record.state.status == Status::Paused && !record.held_by_engine
    };
    if held_by_user {
        return;
    }
    if live.status() != Status::Paused {
        // The guest may have been told to hold it all the same.
        if let Some(run) = live.run() {
            let _ = tokio::time::timeout(HOLD_TIMEOUT, run.sandbox.guest().freeze(false)).await;
        }
        return;
    }
    match tokio::time::timeout(HOLD_TIMEOUT, resume(live)).await {
        Ok(Ok(()) | Err(EngineError::NotRunning { .. })) => {}
        Ok(Err(error)) => tracing::warn!(container = live.id(), %error, "a container stays held"),
        Err(_) => tracing::warn!(
            container = live.id(),
            "a container stays held: its guest does not answer"
        ),
    }
}

/// Has a guest hold its container, and returns when it does.
pub(crate) async fn hold(guest: &Guest) -> Result<(), sandbox::SandboxError> {
    while !guest.freeze(true).await? {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Changes the status, unless it has become another one meanwhile.
async fn set_status(live: &Live, from: Status, to: Status, holder: Holder) -> Result<()> {
    live.change(|standing| {
        let status = &mut standing.record.state.status;
        if *status == from {
            *status = to;
            standing.record.held_by_engine = holder == Holder::Engine;
        }
    });
    live.save().await
}
