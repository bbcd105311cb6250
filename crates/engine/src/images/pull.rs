//! Pulling: from a registry into the store, the layers side by side.

use std::sync::Arc;

use ::registry::{Credentials, Platform, Repository};
use futures_util::StreamExt;
use image_store::{BlobDescriptor, Digest, ImageConfiguration, ImageStore, Ingest, Reference};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::failure::ImageFailure;
use super::manifest::{self, CONFIG_MAX, Manifest, Parts};
use super::names::{RemoteImage, short};
use super::pipe::{PipeReader, PipeWriter, pipe};
use super::progress::{Board, Bytes, ImageEvent, LayerState};
use super::remote;
use super::transfers::Follower;
use super::{Images, store_call};
use crate::{EngineError, ErrorKind, Result};

/// What is to be pulled.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Its name, with a tag, a digest, or neither for `latest`.
    pub name: String,
    /// `OS/ARCHITECTURE[/VARIANT]`; `None` is what microVMs of this machine run.
    pub platform: Option<String>,
    /// For its registry.
    pub credentials: Credentials,
}

/// An image that the registry has, and this user may see.
struct Found {
    image: RemoteImage,
    repository: Repository,
    /// The digest that the name leads to: an index's, if it is one.
    digest: Digest,
    media_type: String,
    bytes: Vec<u8>,
    /// The digest of the image's own manifest.
    manifest: Digest,
    parts: Parts,
    /// What was asked for by name.
    platform: Option<Platform>,
    /// Counts the bytes of layers.
    received: Counter,
}

/// Pulls of the same manifest under the same names are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PullKey {
    manifest: Digest,
    names: Vec<String>,
    platform: Option<String>,
}

type PullBoard = Arc<Board<Result<(), ImageFailure>>>;

impl Images {
    /// Finds the image in its registry, then pulls it, or joins the pull that is under way. It is given up when the
    /// last of those who follow it is dropped.
    pub(crate) async fn pull(&self, request: &PullRequest) -> Result<Follower<()>> {
        let found = self.find(request).await?;
        let names = found.image.names(found.digest);
        let key = PullKey {
            manifest: found.manifest,
            names: names.iter().map(Reference::storage_name).collect(),
            platform: request.platform.clone(),
        };
        let (store, limit) = (self.store.clone(), self.downloads.clone());
        let (events, meters) = (self.events.clone(), self.meters.clone());
        let (name, repository) = (found.image.familiar(), found.image.familiar_repository());
        Ok(self.pulls.join(key, async move |board| {
            let brought = bring(store, limit, found, names, board).await;
            match brought {
                Ok(()) => {
                    meters.pulls.inc();
                    events.image("pull", &name, &repository);
                }
                Err(_) => {
                    meters.pull_failures.inc();
                }
            }
            brought
        }))
    }

    async fn find(&self, request: &PullRequest) -> Result<Found> {
        let image = RemoteImage::parse(&request.name)?;
        let platform = remote::platform(request.platform.as_deref())?;
        let (name, repository_name) = (image.familiar(), image.familiar_repository());
        let failed = |error: &_| ImageFailure::of_pull(&name, &repository_name, error);
        let repository = self
            .registry
            .repository(&image.host, &image.path, request.credentials.clone())
            .map_err(|error| failed(&error))?;
        let answer = remote::manifest(&repository, &image.reference)
            .await
            .map_err(|error| failed(&error))?;
        let digest = remote::digest(&answer.digest)?;
        let answer = match manifest::read(&name, &answer.media_type, &answer.bytes)? {
            Manifest::Image(_) => answer,
            Manifest::Index(index) => {
                let chosen = manifest::choose(&name, &index, &platform)?;
                let by_digest = remote::manifest_by_digest(&repository, chosen.digest());
                by_digest.await.map_err(|error| failed(&error))?
            }
        };
        let Manifest::Image(parts) = manifest::read(&name, &answer.media_type, &answer.bytes)? else {
            return Err(EngineError::Invalid(format!(
                "cannot pull {name}: its index leads to another index, where an image should be"
            )));
        };
        Ok(Found {
            image,
            repository,
            digest,
            manifest: remote::digest(&answer.digest)?,
            media_type: answer.media_type,
            bytes: answer.bytes.to_vec(),
            parts,
            platform: request.platform.is_some().then_some(platform),
            received: self.meters.pulled_bytes.clone(),
        })
    }
}

/// Brings an image into the store under these names.
async fn bring(
    store: ImageStore,
    limit: Arc<Semaphore>,
    found: Found,
    names: Vec<Reference>,
    board: PullBoard,
) -> Result<(), ImageFailure> {
    let familiar = found.image.familiar();
    board.event(ImageEvent::Line {
        about: found.image.tag_or_digest(),
        text: format!("Pulling from {}", found.image.path),
    });
    let name = names.first().map(Reference::storage_name).unwrap_or_default();
    let before = store_call(&store, "look up an image", move |store| {
        Ok(store.resolve(&name).ok())
    })
    .await?;
    let manifest = found.manifest.to_string();
    let was_there = before.is_some_and(|before| before.manifest_digest == manifest);
    let ingest = Arc::new(store_call(&store, "begin a pull", |store| Ok(store.ingest()?)).await?);
    let config = configuration(&store, &found).await?;
    let diff_ids = check_configuration(&found, &config)?;
    let (descriptor, bytes) = (found.parts.config.clone(), config);
    let (media_type, manifest) = (found.media_type.clone(), found.bytes.clone());
    let taking = ingest.clone();
    blocking(move || {
        taking.put_manifest(&media_type, &manifest)?;
        Ok(taking.put_config(&descriptor, &bytes)?)
    })
    .await?;
    bring_layers(&ingest, &limit, &found, diff_ids, was_there, &board).await?;
    blocking(move || Ok(ingest.commit(&names)?)).await?;
    let line = |text: String| {
        board.event(ImageEvent::Line {
            about: String::new(),
            text,
        });
    };
    line(format!("Digest: {}", found.digest));
    line(match was_there {
        true => format!("Status: Image is up to date for {familiar}"),
        false => format!("Status: Downloaded newer image for {familiar}"),
    });
    Ok(())
}

/// The configuration, from the store if it is there.
async fn configuration(store: &ImageStore, found: &Found) -> Result<Vec<u8>, ImageFailure> {
    let digest = found.parts.config.digest;
    let kept = store_call(store, "read a configuration", move |store| {
        use std::io::Read;
        let mut bytes = Vec::new();
        let read = store
            .open_blob(&digest)
            .ok()
            .and_then(|file| file.take(CONFIG_MAX).read_to_end(&mut bytes).ok());
        Ok(read.filter(|_| Digest::of(&bytes) == digest).map(|_| bytes))
    });
    if let Some(bytes) = kept.await? {
        return Ok(bytes);
    }
    remote::read_blob(&found.repository, &found.parts.config, CONFIG_MAX).await
}

/// The digests of the uncompressed layers, if the configuration suits the manifest and the platform.
fn check_configuration(found: &Found, bytes: &[u8]) -> Result<Vec<Digest>, ImageFailure> {
    let name = found.image.familiar();
    let refuse = |what: String| {
        ImageFailure::new(
            ErrorKind::InvalidParameter,
            format!("cannot pull {name}: its configuration {what}"),
        )
    };
    let config: ImageConfiguration =
        serde_json::from_slice(bytes).map_err(|error| refuse(format!("is not understood: {error}")))?;
    let diff_ids: Vec<Digest> = config
        .rootfs()
        .diff_ids()
        .iter()
        .map(|id| {
            id.parse()
                .map_err(|error| refuse(format!("names the layer {id}: {error}")))
        })
        .collect::<Result<_, _>>()?;
    if diff_ids.len() != found.parts.layers.len() {
        return Err(refuse(format!(
            "has {} layers, its manifest {}",
            diff_ids.len(),
            found.parts.layers.len()
        )));
    }
    if let Some(wanted) = &found.platform {
        remote::check_platform(&name, &config, wanted)?;
    }
    Ok(diff_ids)
}

/// Brings the layers that are not there. The first failure ends the others.
async fn bring_layers(
    ingest: &Arc<Ingest>,
    limit: &Arc<Semaphore>,
    found: &Found,
    diff_ids: Vec<Digest>,
    was_there: bool,
    board: &PullBoard,
) -> Result<(), ImageFailure> {
    let layers: Vec<(BlobDescriptor, Digest)> = found.parts.layers.iter().cloned().zip(diff_ids).collect();
    let (asking, asked) = (ingest.clone(), layers.clone());
    let there = blocking(move || {
        let has = asked
            .iter()
            .map(|(layer, diff_id)| asking.has_layer(layer, Some(diff_id)));
        Ok(has.collect::<image_store::Result<Vec<bool>>>()?)
    })
    .await?;
    let mut tasks = JoinSet::new();
    for ((layer, diff_id), there) in layers.into_iter().zip(there) {
        let id = short(&layer.digest.to_string()).to_owned();
        if there {
            // Of an image that was there as a whole only that is told.
            if !was_there {
                board.layer(&id, LayerState::AlreadyExists);
            }
            continue;
        }
        board.layer(&id, LayerState::PullingFsLayer);
        let coming = ComingLayer {
            repository: found.repository.clone(),
            ingest: ingest.clone(),
            layer,
            diff_id,
            id,
            board: board.clone(),
            received: found.received.clone(),
        };
        let limit = limit.clone();
        tasks.spawn(async move { coming.bring(&limit).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| ImageFailure::internal(error.to_string()))??;
    }
    Ok(())
}

/// One layer on its way.
struct ComingLayer {
    repository: Repository,
    ingest: Arc<Ingest>,
    layer: BlobDescriptor,
    diff_id: Digest,
    id: String,
    board: PullBoard,
    received: Counter,
}

impl ComingLayer {
    async fn bring(self, limit: &Semaphore) -> Result<(), ImageFailure> {
        if limit.available_permits() == 0 {
            self.board.layer(&self.id, LayerState::Waiting);
        }
        let _permit = limit
            .acquire()
            .await
            .map_err(|error| ImageFailure::internal(error.to_string()))?;
        let (writer, reader) = pipe();
        let (downloaded, kept) = tokio::join!(self.download(writer), self.keep(reader));
        // What the registry did wrong is the cause of what the store then complains of.
        downloaded?;
        kept?;
        self.board.layer(&self.id, LayerState::PullComplete);
        Ok(())
    }

    /// Reads the layer from the registry, when and as fast as the store wants it.
    async fn download(&self, mut writer: PipeWriter) -> Result<(), ImageFailure> {
        // Another pull may bring the same layer meanwhile.
        if writer.wanted().await.is_err() {
            return Ok(());
        }
        let mut stream = remote::blob(&self.repository, &self.layer);
        let mut progress = Bytes {
            current: 0,
            total: self.layer.size,
        };
        while let Some(piece) = stream.next().await {
            let piece = match piece {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => piece,
                Err(error) => {
                    let failure = ImageFailure::of_registry(&error);
                    writer.fail(&failure.message).await;
                    return Err(failure);
                }
            };
            progress.current += piece.len() as u64;
            self.received.inc_by(piece.len() as u64);
            self.board.layer(&self.id, LayerState::Downloading(progress));
            if writer.write(piece).await.is_err() {
                // The store says why.
                return Ok(());
            }
        }
        self.board.layer(&self.id, LayerState::DownloadComplete);
        writer.finish().await;
        Ok(())
    }

    async fn keep(&self, reader: PipeReader) -> Result<(), ImageFailure> {
        let (ingest, layer, diff_id) = (self.ingest.clone(), self.layer.clone(), self.diff_id);
        blocking(move || Ok(ingest.put_layer(&layer, Some(&diff_id), reader).map(drop)?)).await
    }
}

/// Does what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageFailure> + Send + 'static,
) -> Result<T, ImageFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ImageFailure::internal(error.to_string())),
    }
}
