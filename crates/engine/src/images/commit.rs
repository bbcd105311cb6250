//! An image of a container: the layers of its own image, and what it has changed.

use std::sync::Arc;

use image_store::{Addition, Hold, Image, Reference};
use jiff::Timestamp;

use super::config::ImageConfig;
use super::failure::ImageFailure;
use super::names::{familiar, parse};
use super::pipe::{PipeReader, PipeWriter, pipe};
use super::store_call;
use crate::container::Live;
use crate::engine::Shared;
use crate::pause::BriefPause;
use crate::{EngineError, Result, Status, archive};

/// What to make of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitRequest {
    /// The image's name, if it gets one.
    pub name: Option<String>,
    /// A comment on it.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Whether the container is held meanwhile.
    pub pause: bool,
    /// How its containers run; what is not said is as in the container.
    pub config: ImageConfig,
}

/// [`crate::Engine::commit`]
pub(crate) async fn commit(shared: &Arc<Shared>, live: &Arc<Live>, request: CommitRequest) -> Result<String> {
    request.config.check()?;
    let name = request.name.as_deref().map(parse).transpose()?;
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(EngineError::Invalid("cannot commit to digest reference".into()));
    }
    // One that let the container go on would spoil the other.
    let _committing = live.committing.lock().await;
    if live.status() == Status::Removing {
        return Err(EngineError::Conflict(format!(
            "You cannot commit container {} which is being removed",
            live.id()
        )));
    }
    let (base, hold) = find_base(shared, live).await?;
    let addition = describe(live, &request)?;
    let (writer, reader) = pipe();
    let (image, ()) = tokio::try_join!(
        store(shared, base, hold, reader, name.clone(), addition),
        feed(shared, live, request.pause, writer),
    )?;
    tell(shared, live, &image, name.as_ref(), &request.comment);
    Ok(image.id)
}

/// The container's image, whose layers the new one has, too.
async fn find_base(shared: &Shared, live: &Live) -> Result<(Image, Hold)> {
    let id = live.record().image_id.clone();
    let found = shared.images.resolve_and_hold(&id).await;
    found.map_err(|error| match error {
        EngineError::NoSuchImage(_) => EngineError::Conflict(format!(
            "cannot commit container {}: its image {id} was removed, and with it the layers that the new one would \
             have; pull or load it again",
            live.id()
        )),
        error => error,
    })
}

fn describe(live: &Live, request: &CommitRequest) -> Result<Addition> {
    let record = live.record();
    let mut config = request.config.clone();
    config.complete_from(&ImageConfig::of_container(&record.config));
    Ok(Addition {
        created: Timestamp::now().to_string(),
        author: request.author.clone(),
        created_by: record.config.command.clone().unwrap_or_default().join(" "),
        comment: request.comment.clone(),
        config: config.to_json()?,
    })
}

async fn store(
    shared: &Shared,
    base: Image,
    hold: Hold,
    layer: PipeReader,
    name: Option<Reference>,
    addition: Addition,
) -> Result<Image> {
    let stored = store_call(&shared.images.store, "commit a container", move |store| {
        let _hold = hold;
        Ok(store.append(&base, layer, name.as_ref(), &addition)?)
    });
    stored.await.map_err(EngineError::from)
}

/// Writes the container's layer, as fast as the store takes it. The container is held no longer than that.
async fn feed(shared: &Arc<Shared>, live: &Arc<Live>, pause: bool, mut writer: PipeWriter) -> Result<()> {
    // The store may have to wait for its turn.
    if writer.wanted().await.is_err() {
        // It says why.
        return Ok(());
    }
    let pause = match pause {
        true => BriefPause::begin(live).await?,
        false => None,
    };
    let copied = copy(shared, live, &writer).await;
    if let Some(pause) = pause {
        pause.end().await;
    }
    copied?;
    writer.finish().await;
    Ok(())
}

async fn copy(shared: &Arc<Shared>, live: &Arc<Live>, writer: &PipeWriter) -> Result<()> {
    let mut layer = archive::layer(shared, live, live.id()).await?;
    while let Some(piece) = layer.next().await? {
        if !piece.is_empty() && writer.write(piece).await.is_err() {
            // The store says why.
            break;
        }
    }
    Ok(())
}

fn tell(shared: &Shared, live: &Live, image: &Image, name: Option<&Reference>, comment: &str) {
    let mut more = vec![("comment", comment.to_owned()), ("imageID", image.id.clone())];
    if let Some(name) = name {
        let name = name.storage_name();
        shared.events.image("tag", &image.id, familiar(&name));
        more.push(("imageRef", familiar(&name).to_owned()));
    }
    live.tell("commit", more);
}

impl super::Images {
    /// How the containers of an image run.
    pub(crate) async fn config(&self, image: &Image) -> Result<ImageConfig> {
        let id = image.id.clone();
        let image = image.clone();
        let document = self
            .ask("read an image's configuration", move |store| {
                store.raw_config(&image)
            })
            .await?;
        ImageConfig::in_document(&document)
            .map_err(|error| ImageFailure::internal(format!("the configuration of {id}: {error}")).into())
    }
}
