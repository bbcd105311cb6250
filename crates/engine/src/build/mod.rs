//! Building images: what the builder asks for, done with the engine's images, networks and microVMs.

mod api;
mod cache_export;
mod cache_import;
mod caches;
mod command_mounts;
mod files;
mod host;
mod output;
mod ssh;
mod stage_vm;
mod step_cache;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use builder::{Cache, ContextStore, Layers};

use tokio::sync::{RwLock, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::folder::make_folder;
use crate::{EngineError, Result};

pub use api::{Build, BuildFailure, BuildFiles, BuildSpec, ContextInput};
pub use builder::{
    CacheMode, CacheRecord, Context as BuildContext, ContextError, ContextLimits, Event as BuildEvent,
};
pub use cache_export::CacheTarget;
pub(crate) use step_cache::sweep;
pub use step_cache::{CachePruned, CacheUsage};

use cache_export::Trails;
use caches::CacheFolders;
pub use files::ImageFiles;
pub use host::BuildLimits;
use ssh::Agents;

/// Commands that may run at the same time on any host.
const LEAST_TURNS: usize = 4;
/// What large files of earlier contexts may take, in bytes.
const MOST_CONTENTS: u64 = 2 << 30;
/// How long builds may take to be given up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What all builds share.
#[derive(Debug)]
pub(crate) struct Builds {
    cache: Cache,
    layers: Arc<Layers>,
    /// Folders that outlive builds (`RUN --mount=type=cache`).
    caches: CacheFolders,
    /// What the last builds were made of, for caches that leave the machine.
    trails: Trails,
    /// Large files of earlier contexts, which clients need not send again.
    contents: ContextStore,
    /// SSH agents of the clients.
    agents: Agents,
    /// What is to be waited for when the engine ends.
    tasks: TaskTracker,
    /// Ends all builds.
    stop: CancellationToken,
    /// Held, together, by all that build.
    running: Arc<RwLock<()>>,
    /// Commands that run at the same time.
    turns: Semaphore,
    /// MicroVMs that wait for the next command of their stage.
    waiting: Arc<Semaphore>,
    /// For files without a name, and what a crash left of others.
    temporary: PathBuf,
}

impl Builds {
    /// Opens the cache under `root`.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let folder = root.join("build");
        let temporary = folder.join("tmp");
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(EngineError::io("empty the folder", &temporary))?;
        }
        for path in [&folder, &temporary, &folder.join("mounts")] {
            if !path.is_dir() {
                make_folder(path)?;
            }
        }
        let cache = folder.join("cache");
        let caches = CacheFolders::new(folder.join("mounts"));
        if let Err(error) = caches.sweep() {
            tracing::warn!(%error, "what was removed of the build cache stays");
        }
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        let turns = processors.max(LEAST_TURNS);
        Ok(Self {
            trails: Trails::default(),
            contents: ContextStore::open(&folder.join("contents"), MOST_CONTENTS)
                .map_err(|error| EngineError::Internal(error.to_string()))?,
            agents: Agents::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            running: Arc::default(),
            turns: Semaphore::new(turns),
            waiting: Arc::new(Semaphore::new(turns)),
            cache: Cache::open(cache.clone()).map_err(EngineError::io("make the folder", cache))?,
            layers: Arc::default(),
            caches,
            temporary,
        })
    }
    /// Ends all builds, and waits until nothing of them runs any more.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("a build is not given up in time");
        }
    }

    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }
}
