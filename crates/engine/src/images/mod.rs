//! The images of an engine: those in its store, and the way to and from registries.

mod api;
mod archive_places;
mod archives;
mod commit;
mod config;
mod containers;
mod failure;
pub(crate) mod manifest;
mod names;
mod pipe;
mod progress;
mod pull;
mod push;
pub(crate) mod remote;
mod transfers;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ::registry::{Registry, RegistryConfig};
use image_store::{Hold, Image, ImageStore, ImageSummary, StoreError};
use tokio::sync::Semaphore;

use crate::events::Events;
use crate::streams::blocking;
use crate::{EngineError, Meters, Result};

pub use ::registry::{Credentials as RegistryCredentials, shown_url};
pub use api::{
    LoginStatus, PlatformName, RegistryManifest, SearchRequest, SearchResult, TransferEnd, TransferEvents,
};
pub use archives::{ArchiveInput, ArchiveOutput, ImportRequest};
pub use commit::CommitRequest;
pub(crate) use commit::commit;
pub use config::ImageConfig;
pub use failure::ImageFailure;
pub use names::familiar;
pub(crate) use names::{RemoteImage, parse};
pub(crate) use pipe::{PipeWriter, pipe};
pub use progress::{Bytes as ByteProgress, ImageEvent, LayerState};
pub use pull::PullRequest;
pub use push::PushRequest;

use archive_places::ArchivePlaces;
use pull::PullKey;
use transfers::Transfers;

/// The reference of the image that comes with hull.
const EMBEDDED: &str = "localhost/busybox:latest";
/// Layers that are pulled at once, as Docker does.
const DOWNLOADS: usize = 3;
/// Layers that are pushed at once, as Docker does.
const UPLOADS: usize = 5;

/// The images of an engine. The store waits for its disk, so it is asked on threads that may.
pub(crate) struct Images {
    store: ImageStore,
    registry: Registry,
    pulls: Transfers<PullKey, ()>,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    archives: ArchivePlaces,
    meters: Meters,
    /// The layers of containers, by the containers' ids.
    containers: Mutex<HashMap<String, Hold>>,
    events: Events,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Images {
    /// Opens the store under `root`, and puts the image that comes with hull into it if it is not there as it is in
    /// `lib`.
    pub(crate) fn open(
        root: &Path,
        lib: &Path,
        registries: RegistryConfig,
        events: Events,
        meters: Meters,
    ) -> Result<Images> {
        let store = ImageStore::open(root).map_err(EngineError::from_store)?;
        let layout = lib.join("busybox");
        if layout.is_dir() {
            // Broken or not, the other images can be used.
            if let Err(error) = store.import_oci_layout(&layout, EMBEDDED) {
                tracing::warn!(layout = %layout.display(), %error, "the embedded image cannot be used");
            }
        }
        let registry = Registry::new(registries).map_err(|error| EngineError::Invalid(error.to_string()))?;
        Ok(Images {
            store,
            registry,
            pulls: Transfers::default(),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            archives: ArchivePlaces::default(),
            containers: Mutex::default(),
            events,
            meters,
        })
    }

    pub(crate) fn store(&self) -> &ImageStore {
        &self.store
    }

    pub(crate) fn places(&self) -> &ArchivePlaces {
        &self.archives
    }

    /// The client of registries, which fetches other things of the web, too.
    pub(crate) fn web(&self) -> &Registry {
        &self.registry
    }

    /// Who may push a layer takes one of these.
    pub(crate) fn uploads(&self) -> Arc<Semaphore> {
        self.uploads.clone()
    }

    pub(crate) async fn resolve(&self, name: &str) -> Result<Image> {
        let name = name.to_owned();
        self.ask("look up an image", move |store| store.resolve(&name))
            .await
    }

    pub(crate) async fn summaries(&self) -> Result<Vec<ImageSummary>> {
        let list = |store: &ImageStore| {
            let mut all = store.summaries()?;
            all.retain(|image| !is_between_steps(image));
            Ok(all)
        };
        self.ask("list the images", list).await
    }

    /// Asks the store on a thread that may wait for the disk.
    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        question: impl FnOnce(&ImageStore) -> image_store::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        blocking(what, move || question(&store).map_err(EngineError::from_store)).await
    }
}

/// Whether it is what a build has between its steps, which is the build cache's.
pub(crate) fn is_between_steps(image: &ImageSummary) -> bool {
    image.is_dangling() && image.labels.contains_key(builder::STEP_LABEL)
}

/// The same for what is told to several clients.
async fn store_call<T: Send + 'static>(
    store: &ImageStore,
    what: &'static str,
    question: impl FnOnce(&ImageStore) -> Result<T, ImageFailure> + Send + 'static,
) -> Result<T, ImageFailure> {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || question(&store)).await {
        Ok(answer) => answer,
        Err(error) => Err(ImageFailure::internal(format!("{what}: {error}"))),
    }
}

impl EngineError {
    /// What the store says, in Docker's words.
    pub(crate) fn from_store(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { name } => Self::NoSuchImage(name),
            StoreError::Reference(error) => Self::Invalid(error.to_string()),
            StoreError::AmbiguousId { .. } => Self::Invalid(error.to_string()),
            StoreError::Conflict(conflict) => Self::Conflict(conflict.to_string()),
            StoreError::Ingest(_) | StoreError::Load(_) => Self::Invalid(error.to_string()),
            error => Self::Images(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_image_is_dockers_error() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(
            folder.path(),
            Path::new("/nonexistent"),
            RegistryConfig::default(),
            Events::default(),
            Meters::default(),
        )
        .unwrap();
        for (name, shown) in [
            ("nosuch", "nosuch:latest"),
            ("alpine:3", "alpine:3"),
            ("host:5000/a/b", "host:5000/a/b:latest"),
        ] {
            let error = images.resolve(name).await.unwrap_err();
            assert_eq!(error.to_string(), format!("No such image: {shown}"));
        }
        assert!(images.summaries().await.unwrap().is_empty());
    }
}
