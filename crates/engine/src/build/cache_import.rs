//! Caches of other machines that a build may use: in registries, in images that are here, or sent by the client.

use std::collections::HashMap;
use std::sync::Arc;

use ::registry::{Credentials, ImageIndex, Repository};
use builder::{
    CacheArchive, CacheImport, CacheManifest, Event, LayerFeed, LayerSource, MOST_CACHE_BYTES, PortableCache,
};
use futures_util::StreamExt;
use image_store::{BlobDescriptor, Hold, ImageStore};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::api::BuildSpec;
use crate::engine::Shared;
use crate::images::{ImageFailure, PipeWriter, RemoteImage, manifest, pipe, remote};
use crate::streams::blocking;
use crate::{EngineError, Result};

/// Caches that one build looks into.
const MOST_SOURCES: usize = 16;

/// Where a build looks for steps that were carried out elsewhere.
pub(super) struct Imports {
    shared: Arc<Shared>,
    names: Vec<String>,
    credentials: HashMap<String, Credentials>,
    archive: Option<CacheArchive>,
}

impl Imports {
    /// A build that is to use no cache looks nowhere.
    pub(super) fn of(shared: &Arc<Shared>, spec: &BuildSpec, archive: Option<CacheArchive>) -> Self {
        let (names, archive) = match spec.no_cache {
            true => (Vec::new(), None),
            false => (spec.cache_from.clone(), archive),
        };
        Self {
            shared: shared.clone(),
            names,
            credentials: spec.credentials.clone(),
            archive,
        }
    }

    /// The caches that are there. What cannot be used is told, and is no reason not to build.
    pub(super) async fn find(mut self, events: &mpsc::Sender<Event>) -> Vec<CacheImport> {
        let archive = self.archive.take();
        let sent = archive.map(CacheArchive::imports).unwrap_or_default();
        let mut found: Vec<Result<CacheImport, String>> = sent;
        for (index, name) in self.names.iter().enumerate() {
            let import = match index < MOST_SOURCES {
                true => self.named(name).await,
                false => Err(format!("a build looks into {MOST_SOURCES} caches")),
            };
            found.push(import.map_err(|error| format!("the build cache {name} is not used: {error}")));
        }
        let mut imports = Vec::new();
        for import in found {
            let line = match import {
                Ok(import) => {
                    let line = format!(
                        "Using the build cache {}: {} steps\n",
                        import.name(),
                        import.steps()
                    );
                    imports.push(import);
                    line
                }
                Err(error) => format!("{error}\n"),
            };
            tell(events, line).await;
        }
        imports
    }

    /// The cache of a name: as its registry has it, else as it is here.
    async fn named(&self, name: &str) -> Result<CacheImport, String> {
        let error = match self.in_registry(name).await {
            Ok(import) => return Ok(import),
            Err(error) => error,
        };
        match self.in_store(name).await {
            Ok(import) => Ok(import),
            Err(EngineError::NoSuchImage(_)) => Err(error.to_string()),
            Err(here) => Err(format!("{error}; the image that is here: {here}")),
        }
    }

    async fn in_registry(&self, name: &str) -> Result<CacheImport> {
        let image = RemoteImage::parse(name)?;
        let shown = image.familiar();
        let failed = |error: &_| ImageFailure::of_pull(&shown, &image.familiar_repository(), error);
        let credentials = self.credentials.get(&image.host).cloned().unwrap_or_default();
        let repository = self.shared.images.web();
        let repository = repository
            .repository(&image.host, &image.path, credentials)
            .map_err(|error| failed(&error))?;
        let answer = remote::manifest(&repository, &image.reference).await;
        let mut answer = answer.map_err(|error| failed(&error))?;
        if answer.is_index() {
            let index: ImageIndex = serde_json::from_slice(&answer.bytes)
                .map_err(|error| EngineError::Invalid(format!("its index is not understood: {error}")))?;
            let chosen = manifest::choose(&shown, &index, &remote::platform(None)?)?;
            let by_digest = remote::manifest_by_digest(&repository, chosen.digest()).await;
            answer = by_digest.map_err(|error| failed(&error))?;
        }
        let manifest = CacheManifest::parse(&answer.bytes).map_err(invalid)?;
        let config = remote::read_blob(&repository, &manifest.config, MOST_CACHE_BYTES).await?;
        let cache = PortableCache::parse(&manifest.layers, &config).map_err(invalid)?;
        let layers = RegistryLayers {
            repository,
            received: self.shared.meters.pulled_bytes.clone(),
        };
        Ok(CacheImport::new(shown, cache, Arc::new(layers)))
    }

    /// The cache that an image which is here carries.
    async fn in_store(&self, name: &str) -> Result<CacheImport> {
        let (store, name) = (self.shared.images.store().clone(), name.to_owned());
        blocking("look for a build cache", move || {
            let image = store.resolve(&name).map_err(EngineError::from_store)?;
            let (blobs, hold) = store.layer_blobs(&image).map_err(EngineError::from_store)?;
            let config = store.raw_config(&image).map_err(EngineError::from_store)?;
            let cache = PortableCache::parse(&blobs, &config).map_err(invalid)?;
            let layers = StoreLayers { store, _hold: hold };
            Ok(CacheImport::new(name, cache, Arc::new(layers)))
        })
        .await
    }
}

/// Tells a line that no command has printed.
pub(super) async fn tell(events: &mpsc::Sender<Event>, line: String) {
    let (bytes, is_error) = (line.into(), false);
    // Nobody listens to a build that is given up.
    let _ = events.send(Event::Output { bytes, is_error }).await;
}

fn invalid(error: impl std::fmt::Display) -> EngineError {
    EngineError::Invalid(error.to_string())
}

/// Layers that a registry has.
#[derive(Debug)]
struct RegistryLayers {
    repository: Repository,
    /// Counts their bytes.
    received: Counter,
}

impl LayerSource for RegistryLayers {
    fn open(&self, layer: &BlobDescriptor) -> LayerFeed {
        let (writer, reader) = pipe();
        let download = download(
            self.repository.clone(),
            layer.clone(),
            self.received.clone(),
            writer,
        );
        LayerFeed::fed(reader, download)
    }
}

/// Reads a layer when it is wanted: it may be here already.
async fn download(repository: Repository, layer: BlobDescriptor, received: Counter, mut writer: PipeWriter) {
    if writer.wanted().await.is_err() {
        return;
    }
    let mut stream = remote::blob(&repository, &layer);
    while let Some(piece) = stream.next().await {
        let piece = match piece {
            Ok(piece) if piece.is_empty() => continue,
            Ok(piece) => piece,
            Err(error) => return writer.fail(&ImageFailure::of_registry(&error).message).await,
        };
        received.inc_by(piece.len() as u64);
        if writer.write(piece).await.is_err() {
            return;
        }
    }
    writer.finish().await;
}

/// Layers of an image that is here.
#[derive(Debug)]
struct StoreLayers {
    store: ImageStore,
    _hold: Hold,
}

impl LayerSource for StoreLayers {
    fn open(&self, layer: &BlobDescriptor) -> LayerFeed {
        match self.store.open_blob(&layer.digest) {
            Ok(file) => LayerFeed::there(file),
            Err(error) => LayerFeed::failed(error.to_string()),
        }
    }
}
