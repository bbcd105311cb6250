//! A microVM for a moment: how the files of a container are reached that does not run.

use std::sync::Arc;

use sandbox::{Clock, Mount, MountSource, Sandbox, TmpfsFlags};
use tokio::sync::OwnedMutexGuard;

use crate::boot::Boot;
use crate::container::Live;
use crate::engine::Shared;
use crate::folder::ContainerRecord;
use crate::guest_spec::{GuestSpec, guest_spec};
use crate::networks::Attached;
use crate::start::sandbox_spec;
use crate::volumes::{self, Fill};
use crate::{EngineError, Result};

/// What of a container has to be in reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Its own root.
    Root,
    /// Its volumes, too.
    Volumes,
}

/// The microVM. As long as it is there nobody else starts or removes the container. When it is dropped it is taken down,
/// which needs nobody to wait for it; so is, when it starts again, one that an engine left behind.
#[derive(Debug)]
pub(super) struct Errand {
    /// `None` once it is taken down.
    held: Option<Held>,
    sandbox: Sandbox,
}

#[derive(Debug)]
struct Held {
    sandbox: Sandbox,
    operation: OwnedMutexGuard<()>,
}

impl Errand {
    /// Brings it up, with the container's root mounted and nothing of it started.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        live: &Arc<Live>,
        needs: Needs,
        mut operation: OwnedMutexGuard<()>,
    ) -> Result<Errand> {
        let failed = |source| EngineError::Sandbox {
            action: "reach the files of",
            id: live.id().to_owned(),
            source,
        };
        let fills = match needs {
            Needs::Root => Vec::new(),
            // What is looked for or put there must not stand in the way of what the image has.
            Needs::Volumes => volumes::begin_fills(shared, live).await?,
        };
        let spec = spec(shared, &live.record(), needs, fills)?;
        let clock = Clock::start();
        let mut boot = Boot::new(
            &shared.templates,
            sandbox_spec(shared, live, &spec),
            clock.clone(),
        );
        let errand = loop {
            let attempt = boot.spec();
            let sandbox = match Sandbox::start(&attempt, clock.clone()).map_err(failed) {
                Err(error) if boot.goes_on_after(&error) => continue,
                started => started?,
            };
            let errand = Errand {
                held: Some(Held {
                    sandbox: sandbox.clone(),
                    operation,
                }),
                sandbox,
            };
            let created = errand.sandbox.guest().create_container(spec.container.clone());
            match created.await.map_err(failed) {
                Ok(()) => break errand,
                Err(error) => {
                    operation = errand.give_up().await?;
                    if !boot.goes_on_after(&error) {
                        return Err(error);
                    }
                }
            }
        };
        boot.succeeded();
        for fill in &spec.fills {
            fill.carry_out(&errand.sandbox).await?;
        }
        Ok(errand)
    }

    /// Ends a microVM in which nothing was done, and lets go of the container only then.
    async fn give_up(mut self) -> Result<OwnedMutexGuard<()>> {
        let Some(held) = self.held.take() else {
            return Err(EngineError::Internal("a microVM was taken down twice".into()));
        };
        let ended = tokio::spawn(async move {
            held.sandbox.stop().await;
            held.operation
        });
        ended
            .await
            .map_err(|error| EngineError::Internal(error.to_string()))
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Takes it down, all that was written on the disk. A client that does not wait for it, because it has all it wanted,
    /// does not keep it from being done.
    pub(super) async fn finish(mut self) -> Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let down = tokio::spawn(held.take_down()).await;
        down.unwrap_or_else(|error| Err(EngineError::Internal(error.to_string())))
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        tokio::spawn(async move {
            if let Err(error) = held.take_down().await {
                tracing::debug!(%error, "a microVM that nobody waits for");
            }
        });
    }
}

impl Held {
    /// The container is let go of when it is down.
    async fn take_down(self) -> Result<()> {
        let synced = self.sandbox.guest().sync().await;
        self.sandbox.stop().await;
        synced.map_err(|why| EngineError::Internal(format!("what was written last may be lost: {why}")))
    }
}

fn spec(shared: &Shared, record: &ContainerRecord, needs: Needs, fills: Vec<Fill>) -> Result<GuestSpec> {
    if needs == Needs::Volumes {
        return guest_spec(record, &shared.spec.client_files, fills, Attached::default());
    }
    // A volume that is not there any more is no reason not to look at the root. Where they were is told all the same: it
    // is no part of the root.
    let mut bare = record.clone();
    let points = std::mem::take(&mut bare.mounts);
    let mut spec = guest_spec(&bare, &shared.spec.client_files, fills, Attached::default())?;
    spec.container.mounts = points
        .into_iter()
        .map(|point| Mount {
            target: point.target,
            source: MountSource::Tmpfs {
                options: String::new(),
                flags: TmpfsFlags {
                    no_exec: true,
                    no_suid: true,
                    no_dev: true,
                },
            },
            read_only: true,
        })
        .collect();
    Ok(spec)
}
