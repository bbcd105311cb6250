//! Copy-up: a volume that is empty gets what the image has in its place, before the container's first process starts.
//!
//! The host neither reads the image's tree nor trusts what the guest makes of it: the agent copies, in the guest, from
//! the root it sees into the folder it shares. A volume is written down as filled only when all is copied; one whose copy
//! was cut short is copied into again.

use std::sync::Arc;

use sandbox::{FillSpec, Sandbox, SandboxError, Task};

use super::store::{Filling, Volumes};
use super::tree;
use crate::container::Live;
use crate::engine::Shared;
use crate::exec_process::next_process;
use crate::streams::blocking;
use crate::{EngineError, MountKind, MountPoint, Result, archive};

/// A volume that a container may have to fill.
#[derive(Clone, Debug)]
pub(crate) struct Fill {
    volumes: Volumes,
    volume: String,
    target: String,
    /// Its place among the container's mounts.
    pub(crate) mount: usize,
    /// Whether what was copied must outlast a power cut.
    durable: bool,
}

/// What has to be filled when a container starts for the first time. Volumes that it takes from a container which was
/// never started are filled from that one.
pub(crate) async fn begin(shared: &Arc<Shared>, live: &Arc<Live>) -> Result<Vec<Fill>> {
    if has_run(live) {
        return Ok(Vec::new());
    }
    let record = live.record();
    let mut fills = Vec::new();
    for (mount, point) in record.mounts.iter().enumerate() {
        if point.kind != MountKind::Volume || !is_open(&shared.volumes, &point.name).await? {
            continue;
        }
        if point.copy {
            fills.push(Fill {
                volumes: shared.volumes.clone(),
                volume: point.name.clone(),
                target: point.target.clone(),
                mount,
                durable: live.is_durable(),
            });
        } else if let Some(owner) = owner(shared, live, &point.name) {
            // Its own start, or a copy into it, waits for the same.
            Box::pin(archive::bring_up(shared, &owner)).await?;
        }
    }
    Ok(fills)
}

/// Whether a volume is empty, or was filled in part.
async fn is_open(volumes: &Volumes, name: &str) -> Result<bool> {
    let (volumes, name) = (volumes.clone(), name.to_owned());
    blocking("look at a volume", move || {
        let filling = volumes.get(&name)?.filling;
        Ok(filling == Filling::Begun || is_empty(&volumes, &name)?)
    })
    .await
}

fn is_empty(volumes: &Volumes, name: &str) -> Result<bool> {
    let data = volumes.data(name);
    tree::is_empty(&data).map_err(EngineError::io("read the volume", data))
}

/// The container whose image a volume would be filled from, had that one been started.
fn owner(shared: &Shared, live: &Live, volume: &str) -> Option<Arc<Live>> {
    let fills = |point: &MountPoint| point.kind == MountKind::Volume && point.copy && point.name == volume;
    shared
        .registry
        .all()
        .into_iter()
        .find(|other| other.id() != live.id() && !has_run(other) && other.record().mounts.iter().any(fills))
}

fn has_run(live: &Live) -> bool {
    let standing = live.watch();
    let state = &standing.borrow().record.state;
    state.started_at.is_some() || state.finished_at.is_some()
}

impl Fill {
    /// Fills the volume, in a guest that has its container and no process of it yet.
    pub(crate) async fn carry_out(&self, sandbox: &Sandbox) -> Result<()> {
        let (_filling, filling) = self.volumes.lock_filling(&self.volume).await?;
        let again = filling == Filling::Begun;
        if !again && !self.look().await? {
            return Ok(());
        }
        self.note(Filling::Begun).await?;
        let task = Task::Fill(FillSpec {
            mount: u32::try_from(self.mount).unwrap_or(u32::MAX),
            again,
        });
        let mut task = sandbox
            .start_task(next_process(), task)
            .await
            .map_err(|error| self.failed(error))?;
        task.end().await.map_err(|error| self.failed(error))?;
        self.note(Filling::Done).await
    }

    /// Whether it is still empty.
    async fn look(&self) -> Result<bool> {
        let fill = self.clone();
        blocking("look at a volume", move || is_empty(&fill.volumes, &fill.volume)).await
    }

    async fn note(&self, filling: Filling) -> Result<()> {
        let fill = self.clone();
        blocking("write a volume's description", move || {
            fill.volumes.set_filling(&fill.volume, filling, fill.durable)
        })
        .await
    }

    fn failed(&self, error: SandboxError) -> EngineError {
        let why = match error {
            SandboxError::Task { message, .. } => message,
            error => error.to_string(),
        };
        EngineError::Internal(format!(
            "failed to copy what the image has at {} to the volume {}: {why}; the next start tries it again",
            self.target, self.volume
        ))
    }
}
