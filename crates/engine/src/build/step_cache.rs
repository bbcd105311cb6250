//! The cache of steps: what it takes, what is removed of it, and what it may take.

use std::collections::HashSet;
use std::sync::Arc;

use builder::{CacheRecord, over_size};
use image_store::NoUsers;

use crate::engine::Shared;
use crate::images::is_between_steps;
use crate::streams::blocking;
use crate::{Engine, EngineError, Result};

/// What the build cache takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheUsage {
    /// Its entries, the one that was not used for longest first.
    pub entries: Vec<CacheRecord>,
    /// The bytes in folders of `RUN --mount=type=cache`.
    pub mounts: u64,
    /// The bytes in large files of earlier contexts.
    pub contents: u64,
}

impl CacheUsage {
    /// The entries that have to go so that the others have at most so many bytes.
    pub fn over(&self, most_bytes: u64) -> HashSet<String> {
        over_size(&self.entries, most_bytes)
    }
}

/// What was removed of the build cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePruned {
    /// The names of its entries.
    pub entries: Vec<String>,
    /// Bytes that are free now.
    pub reclaimed: u64,
}

impl Engine {
    /// What the build cache takes.
    pub async fn build_cache(&self) -> Result<CacheUsage> {
        let shared = self.shared.clone();
        blocking("read the build cache", move || {
            let entries = shared.builds.cache.list().map_err(cache_failed)?;
            Ok(CacheUsage {
                entries: entries
                    .into_iter()
                    .filter(|record| record.entry.image.is_some())
                    .collect(),
                mounts: shared.builds.caches.size(),
                contents: shared.builds.contents.bytes(),
            })
        })
        .await
    }

    /// Removes what `select` says yes to of the build cache; with `mounts` also the folders of `RUN --mount=type=cache` and the files of
    /// earlier contexts.
    pub async fn prune_build_cache(
        &self,
        mounts: bool,
        select: impl Fn(&CacheRecord) -> bool + Send + 'static,
    ) -> Result<CachePruned> {
        let shared = self.shared.clone();
        blocking("prune the build cache", move || {
            let builds = &shared.builds;
            let mut pruned = CachePruned::default();
            for record in builds.cache.list().map_err(cache_failed)? {
                if select(&record) {
                    builds.cache.remove(&record).map_err(cache_failed)?;
                    pruned
                        .entries
                        .extend(record.entry.image.is_some().then_some(record.id));
                }
            }
            builds.layers.close_unused();
            pruned.reclaimed = remove_orphans(&shared)?;
            if mounts {
                let freed = builds.caches.prune().map_err(cache_failed)?;
                let freed = freed.saturating_add(builds.contents.clear());
                pruned.reclaimed = pruned.reclaimed.saturating_add(freed);
            }
            Ok(pruned)
        })
        .await
    }
}

/// Removes images between steps that the cache does not know; the bytes that are free now. As long as something is built nothing is
/// removed: it may be what a step is about to begin with.
fn remove_orphans(shared: &Shared) -> Result<u64> {
    let (builds, store) = (&shared.builds, shared.images.store());
    let Ok(_nobody_builds) = builds.running.try_write() else {
        return Ok(0);
    };
    let known = builds.cache.list().map_err(cache_failed)?;
    let known: HashSet<_> = known
        .iter()
        .filter_map(|record| record.entry.image.as_deref())
        .collect();
    let is_orphan =
        |image: &image_store::ImageSummary| is_between_steps(image) && !known.contains(image.id.as_str());
    let pruned = store
        .prune(is_orphan, &NoUsers)
        .map_err(EngineError::from_store)?;
    Ok(pruned.reclaimed)
}

/// Removes what is more than the cache may take, and what builds have left that nobody goes on with.
pub(crate) async fn sweep(shared: &Arc<Shared>) {
    let work = shared.clone();
    let swept = blocking("sweep the build cache", move || {
        if let Some(limit) = work.spec.build_cache_bytes {
            let removed = work.builds.cache.trim(limit).map_err(cache_failed)?;
            if !removed.is_empty() {
                tracing::info!(
                    entries = removed.len(),
                    limit,
                    "the build cache had more than it may take"
                );
                work.builds.layers.close_unused();
            }
        }
        remove_orphans(&work)
    });
    if let Err(error) = swept.await {
        tracing::warn!(%error, "what a build has left stays");
    }
}

fn cache_failed(error: std::io::Error) -> EngineError {
    EngineError::Internal(format!("the build cache: {error}"))
}
