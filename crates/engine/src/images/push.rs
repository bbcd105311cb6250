//! Pushing: from the store to a registry, the layers side by side.

use std::sync::Arc;

use ::registry::{Credentials, Platform, Repository};
use image_store::{BlobDescriptor, Image, ImageStore, RawManifest, Reference};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::failure::ImageFailure;
use super::names::{RemoteImage, familiar, short};
use super::progress::{Board, Bytes, ImageEvent, LayerState};
use super::remote;
use super::transfers::Follower;
use super::{Images, store_call};
use crate::{EngineError, Result};

/// What is to be pushed.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The repository, or a name with a tag.
    pub name: String,
    /// The tag, in place of the name's; with neither all tags of the repository are pushed.
    pub tag: Option<String>,
    /// `OS/ARCHITECTURE[/VARIANT]`: an image for another platform is not pushed, but an error.
    pub platform: Option<String>,
    /// For its registry.
    pub credentials: Credentials,
}

type PushBoard = Arc<Board<Result<(), ImageFailure>>>;

/// One name on its way to a registry.
struct Outgoing {
    name: RemoteImage,
    image: Image,
    manifest: RawManifest,
    /// Layers, bottom first, and the configuration last.
    blobs: Vec<BlobDescriptor>,
}

/// What the pushes of one command share.
#[derive(Clone)]
struct Destination {
    store: ImageStore,
    limit: Arc<Semaphore>,
    repository: Repository,
    host: String,
    board: PushBoard,
}

impl Images {
    /// Finds what is to be pushed, then pushes it as long as the follower lives.
    pub(crate) async fn push(&self, request: &PushRequest) -> Result<Follower<()>> {
        let outgoing = self.outgoing(request).await?;
        let Some(first) = outgoing.first() else {
            return Err(EngineError::NoSuchImage(request.name.clone()));
        };
        let name = first.name.clone();
        let repository = self
            .registry
            .repository(&name.host, &name.path, request.credentials.clone())
            .map_err(|error| ImageFailure::of_registry(&error))?;
        let (store, limit, events) = (self.store.clone(), self.uploads.clone(), self.events.clone());
        Ok(Follower::alone(|board| async move {
            board.event(ImageEvent::Line {
                about: String::new(),
                text: format!(
                    "The push refers to repository [{}]",
                    name.reference.storage_repository()
                ),
            });
            let destination = Destination {
                store,
                limit,
                repository,
                host: name.host.clone(),
                board,
            };
            for outgoing in outgoing {
                let (name, repository) = (outgoing.name.familiar(), outgoing.name.familiar_repository());
                destination.push(outgoing).await?;
                events.image("push", &name, &repository);
            }
            Ok(())
        }))
    }

    /// The images behind the names that are meant.
    async fn outgoing(&self, request: &PushRequest) -> Result<Vec<Outgoing>> {
        let (name, tag) = (request.name.clone(), request.tag.clone());
        let wanted = request.platform.as_deref();
        let wanted = wanted
            .map(|platform| remote::platform(Some(platform)))
            .transpose()?;
        store_call(&self.store, "look up what is to be pushed", move |store| {
            let reference = super::names::parse(&name)?;
            let tagged = match &tag {
                Some(tag) => Some(reference.with_tag(tag).ok_or_else(|| {
                    EngineError::Invalid(format!("invalid reference format: {tag:?} is no tag"))
                })?),
                None if reference.has_tag() || reference.digest().is_some() => Some(reference.clone()),
                None => None,
            };
            let names = match tagged {
                Some(tagged) => vec![tagged],
                None => all_tags(store, &reference)?,
            };
            let outgoing = names.iter().map(|name| outgoing(store, name, wanted.as_ref()));
            Ok(outgoing.collect::<Result<_>>()?)
        })
        .await
        .map_err(EngineError::from)
    }
}

/// The names of a repository, in each of the places where a short one is looked for.
fn all_tags(store: &ImageStore, repository: &Reference) -> Result<Vec<Reference>> {
    let repositories = repository.repositories();
    let summaries = store.summaries().map_err(EngineError::from_store)?;
    let mut names: Vec<String> = summaries
        .into_iter()
        .flat_map(|summary| summary.references)
        .collect();
    names.sort_unstable();
    let of_it = |name: &String| {
        name.rsplit_once(':')
            .is_some_and(|(of, _)| repositories.iter().any(|repository| repository == of))
    };
    names
        .iter()
        .filter(|name| of_it(name))
        .map(|name| super::names::parse(name))
        .collect()
}

fn outgoing(store: &ImageStore, reference: &Reference, wanted: Option<&Platform>) -> Result<Outgoing> {
    let shown = familiar(&reference.storage_name()).to_owned();
    let image = store
        .resolve(&reference.to_string())
        .map_err(|error| match error {
            image_store::StoreError::NotFound { .. } => ImageFailure::new(
                crate::ErrorKind::NotFound,
                format!(
                    "An image does not exist locally with the tag: {}",
                    familiar(&reference.storage_repository())
                ),
            )
            .into(),
            error => EngineError::from_store(error),
        })?;
    // Every image of the store is for one platform, so there is nothing to choose from.
    if let Some(wanted) = wanted {
        remote::check_platform(&shown, &image.config, wanted)?;
    }
    Ok(Outgoing {
        name: RemoteImage::parse(&reference.to_string())?,
        manifest: store.manifest(&image).map_err(EngineError::from_store)?,
        blobs: store.image_blobs(&image).map_err(EngineError::from_store)?,
        image,
    })
}

impl Destination {
    async fn push(&self, outgoing: Outgoing) -> Result<(), ImageFailure> {
        let name = outgoing.name.familiar_repository();
        let failed = |error: &_| ImageFailure::of_push(&name, error);
        let Some((config, layers)) = outgoing.blobs.split_last() else {
            return Err(ImageFailure::internal(format!(
                "the image {name} has no configuration"
            )));
        };
        let mut tasks = JoinSet::new();
        for layer in layers {
            let id = short(&layer.digest.to_string()).to_owned();
            self.board.layer(&id, LayerState::Preparing);
            let going = GoingLayer {
                destination: self.clone(),
                sources: self.sources(&outgoing.image),
                layer: layer.clone(),
                id,
            };
            tasks.spawn(async move { going.send().await });
        }
        while let Some(ended) = tasks.join_next().await {
            let sent = ended.map_err(|error| ImageFailure::internal(error.to_string()))?;
            sent.map_err(|error| failed(&error))?;
        }
        let sources = self.sources(&outgoing.image);
        let had = self
            .has_or_mounts(config, &sources)
            .await
            .map_err(|error| failed(&error))?;
        if had.is_none() {
            let sent = remote::push_blob(&self.repository, &self.store, config, |_| {}).await;
            sent.map_err(|error| failed(&error))?;
        }
        let tag = outgoing.name.tag_or_digest();
        let pushed =
            remote::push_manifest(&self.repository, &outgoing.name.reference, &outgoing.manifest).await;
        pushed.map_err(|error| failed(&error))?;
        let (digest, size) = (outgoing.manifest.digest, outgoing.manifest.bytes.len() as u64);
        self.board.event(ImageEvent::Line {
            about: String::new(),
            text: format!("{tag}: digest: {digest} size: {size}"),
        });
        self.board.event(ImageEvent::Pushed {
            tag,
            digest: digest.to_string(),
            size,
        });
        // Where it is now is told with the image.
        let by_digest = outgoing.name.reference.with_digest(digest);
        let source = outgoing.name.reference.storage_name();
        let named = store_call(&self.store, "name what was pushed", move |store| {
            Ok(store.tag(&source, &by_digest)?)
        });
        if let Err(error) = named.await {
            // Its name may have gone meanwhile; the registry has it.
            tracing::warn!(%error, "what was pushed did not get its digest as a name");
        }
        Ok(())
    }

    /// How the registry came to have a blob without being sent it, if it did.
    async fn has_or_mounts(
        &self,
        blob: &BlobDescriptor,
        sources: &[String],
    ) -> ::registry::Result<Option<LayerState>> {
        if remote::has_blob(&self.repository, blob).await? {
            return Ok(Some(LayerState::LayerAlreadyExists));
        }
        for source in sources {
            if remote::mount_blob(&self.repository, blob, source).await? {
                return Ok(Some(LayerState::MountedFrom(source.clone())));
            }
        }
        Ok(None)
    }

    /// Repositories of the same registry that the image came from or went to: they may have its layers.
    fn sources(&self, image: &Image) -> Vec<String> {
        let own = self.repository.name().to_string();
        let mut sources: Vec<String> = image
            .digests
            .iter()
            .filter_map(|name| name.split_once('@')?.0.split_once('/'))
            .filter(|(host, path)| *host == self.host && *path != own)
            .map(|(_, path)| path.to_owned())
            .collect();
        sources.dedup();
        sources
    }
}

/// One layer on its way.
struct GoingLayer {
    destination: Destination,
    sources: Vec<String>,
    layer: BlobDescriptor,
    id: String,
}

impl GoingLayer {
    async fn send(self) -> Result<(), ::registry::RegistryError> {
        let Destination {
            store,
            limit,
            repository,
            board,
            ..
        } = &self.destination;
        if limit.available_permits() == 0 {
            board.layer(&self.id, LayerState::Waiting);
        }
        // The semaphore is never closed.
        let _permit = limit.acquire().await;
        if let Some(had) = self.destination.has_or_mounts(&self.layer, &self.sources).await? {
            board.layer(&self.id, had);
            return Ok(());
        }
        let (told, id, total) = (board.clone(), self.id.clone(), self.layer.size);
        let report = move |current| told.layer(&id, LayerState::Pushing(Bytes { current, total }));
        remote::push_blob(repository, store, &self.layer, report).await?;
        board.layer(&self.id, LayerState::Pushed);
        Ok(())
    }
}
