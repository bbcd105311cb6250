//! Caches that leave this machine: to registries, or to a client.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ::registry::{Credentials, RegistryError, Repository};
use builder::{CacheExport, CacheMode, Event, Trail};
use image_store::{BlobDescriptor, ImageStore};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::api::{BuildFailure, BuildSpec};
use super::cache_import::tell;
use crate::engine::Shared;
use crate::images::{ArchiveOutput, ImageFailure, RemoteImage, remote};
use crate::streams::blocking;
use crate::{Engine, EngineError, Result};

/// Builds whose steps are remembered.
const REMEMBERED: usize = 32;

/// Where the cache of a build is pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTarget {
    /// Its name in a registry, with a tag or without.
    pub name: String,
    /// What goes there.
    pub mode: CacheMode,
    /// Whether a build whose cache cannot be pushed is a success all the same.
    pub ignore_error: bool,
}

/// The steps of the last builds, by the identifiers of their images.
#[derive(Debug, Default)]
pub(super) struct Trails(Mutex<VecDeque<(String, Arc<Trail>)>>);

impl Trails {
    pub(super) fn keep(&self, id: &str, trail: Trail) -> Arc<Trail> {
        let trail = Arc::new(trail);
        let mut trails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trails.retain(|(of, _)| of != id);
        trails.push_back((id.to_owned(), trail.clone()));
        let over = trails.len().saturating_sub(REMEMBERED);
        trails.drain(..over);
        trail
    }

    fn of(&self, id: &str) -> Option<Arc<Trail>> {
        let trails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trails = trails.iter();
        trails.find_map(|(of, trail)| (of == id).then(|| trail.clone()))
    }
}

/// All places that the cache of one build goes to.
pub(super) struct Exports {
    targets: Vec<(CacheTarget, RemoteImage)>,
    credentials: HashMap<String, Credentials>,
}

impl Exports {
    /// Refuses names that nothing can be pushed under, before anything is built.
    pub(super) fn of(spec: &BuildSpec) -> Result<Self> {
        let target = |target: &CacheTarget| {
            let image = RemoteImage::parse(&target.name)?;
            if image.reference.digest().is_some() {
                return Err(EngineError::Invalid(format!(
                    "cannot push a build cache to {}: its digest follows from what is in it; give it a tag",
                    target.name
                )));
            }
            Ok((target.clone(), image))
        };
        Ok(Self {
            targets: spec.cache_to.iter().map(target).collect::<Result<_>>()?,
            credentials: spec.credentials.clone(),
        })
    }

    /// Pushes the cache of a build that is done.
    pub(super) async fn push(
        &self,
        shared: &Arc<Shared>,
        trail: &Arc<Trail>,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), BuildFailure> {
        for (target, image) in &self.targets {
            let name = image.familiar();
            let Err(error) = self.push_to(shared, trail, target.mode, image, events).await else {
                continue;
            };
            let message = format!("cannot push the build cache to {name}: {error}");
            if !target.ignore_error {
                return Err(BuildFailure {
                    message: format!(
                        "{message}; the image is built all the same (ignore-error=true makes that a success)"
                    ),
                    code: None,
                });
            }
            let _ = events.send(Event::Warning(message)).await;
        }
        Ok(())
    }

    async fn push_to(
        &self,
        shared: &Arc<Shared>,
        trail: &Arc<Trail>,
        mode: CacheMode,
        image: &RemoteImage,
        events: &mpsc::Sender<Event>,
    ) -> Result<()> {
        let export = export(shared, trail, mode).await?;
        let (name, steps, layers) = (image.familiar(), export.steps, export.layers.len());
        tell(
            events,
            format!("Pushing the build cache to {name}: {steps} steps, {layers} layers\n"),
        )
        .await;
        let credentials = self.credentials.get(&image.host).cloned().unwrap_or_default();
        let repository = shared.images.web();
        let repository = repository.repository(&image.host, &image.path, credentials);
        let repository = repository.map_err(|error| ImageFailure::of_registry(&error))?;
        let push = CachePush {
            repository,
            store: shared.images.store().clone(),
            limit: shared.images.uploads(),
        };
        push.layers(&export.layers).await?;
        push.config(shared, &export).await?;
        remote::push_manifest(&push.repository, &image.reference, &export.manifest)
            .await
            .map_err(|error| push.failed(&error))?;
        tell(events, format!("{name}: digest: {}\n", export.manifest.digest)).await;
        Ok(())
    }
}

async fn export(shared: &Arc<Shared>, trail: &Arc<Trail>, mode: CacheMode) -> Result<CacheExport> {
    let (store, trail) = (shared.images.store().clone(), trail.clone());
    blocking("gather a build cache", move || {
        CacheExport::of(&store, &trail, mode).map_err(EngineError::from_store)
    })
    .await
}

/// A cache on its way to a registry.
struct CachePush {
    repository: Repository,
    store: ImageStore,
    limit: Arc<Semaphore>,
}

impl CachePush {
    /// Pushes the layers that the registry has not. The first failure ends the others.
    async fn layers(&self, layers: &[BlobDescriptor]) -> Result<()> {
        let mut pushing = JoinSet::new();
        for layer in layers {
            let (repository, store) = (self.repository.clone(), self.store.clone());
            let (limit, layer) = (self.limit.clone(), layer.clone());
            pushing.spawn(async move {
                // The semaphore is never closed.
                let _permit = limit.acquire().await;
                if remote::has_blob(&repository, &layer).await? {
                    return Ok(());
                }
                remote::push_blob(&repository, &store, &layer, |_| {}).await
            });
        }
        while let Some(pushed) = pushing.join_next().await {
            let pushed = pushed.map_err(|error| ImageFailure::internal(error.to_string()))?;
            pushed.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn failed(&self, error: &RegistryError) -> EngineError {
        ImageFailure::of_push(self.repository.name(), error).into()
    }

    async fn config(&self, shared: &Arc<Shared>, export: &CacheExport) -> Result<()> {
        let config = &export.config;
        let has = remote::has_blob(&self.repository, config).await;
        if has.map_err(|error| self.failed(&error))? {
            return Ok(());
        }
        let file = tempfile::NamedTempFile::new_in(shared.builds.temporary());
        let written = file.and_then(|mut file| file.write_all(&export.config_bytes).map(|()| file));
        let file = written.map_err(EngineError::io("write to", shared.builds.temporary()))?;
        let pushed = remote::push_file(&self.repository, config, file.path()).await;
        pushed.map_err(|error| self.failed(&error))
    }
}

impl Engine {
    /// The cache of the build that made an image last, as the archive of an OCI image layout.
    pub async fn image_cache(&self, name: &str, mode: CacheMode) -> Result<ArchiveOutput> {
        let image = self.shared.images.resolve(name).await?;
        let trail = self.shared.builds.trails.of(&image.id).ok_or_else(|| {
            EngineError::Conflict(format!(
                "it is not known which steps made the image {name}: those of the last {REMEMBERED} builds are, until \
                 hulld ends; build it again"
            ))
        })?;
        let export = export(&self.shared, &trail, mode).await?;
        let store = self.shared.images.store().clone();
        let output = self.shared.images.write_archive(move |writer: &mut dyn Write| {
            export.save(&store, writer).map_err(io::Error::other)
        });
        Ok(output.await)
    }
}
