//! Images as archives: saving, loading, importing. Archives are streams: neither end holds one in memory.

use std::collections::BTreeSet;
use std::io::{self, Write};

use ::registry::{Download, describe_platform, suits};
use bytes::Bytes;
use image_store::{ImageStore, LayerProgress, Loaded, Platform, Reference, WantedPlatform};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::api::PlatformName;
use super::archive_places::{ArchivePlace, ArchivePlaces};
use super::config::ImageConfig;
use super::failure::ImageFailure;
use super::names::{familiar, parse};
use super::pipe::{PipeReader, PipeWriter, pipe};
use super::progress::{Board, Bytes as Progress, ImageEvent, LayerState};
use super::transfers::Follower;
use super::{Images, remote, store_call};
use crate::events::Events;
use crate::{EngineError, ErrorKind, Result};

/// Pieces of an archive that wait for its reader at most.
const PIECES: usize = 8;
/// The size of such a piece in bytes.
const PIECE: usize = 128 << 10;
/// Characters that tell a layer.
const SHOWN_DIGITS: usize = 12;

type ImageBoard = Board<Result<(), ImageFailure>>;

/// What is written to load or import an image: pieces of an archive, then [`ArchiveInput::finish`].
#[derive(Debug)]
pub struct ArchiveInput(PipeWriter);

impl ArchiveInput {
    /// Writes a piece; `false` when nothing more is wanted.
    pub async fn write(&self, piece: Bytes) -> bool {
        piece.is_empty() || self.0.write(piece).await.is_ok()
    }

    /// Waits until nothing more is wanted.
    pub async fn unwanted(&self) {
        self.0.unwanted().await;
    }

    /// Ends the archive. Without it what was written is given up.
    pub async fn finish(self) {
        self.0.finish().await;
    }
}

/// An archive on its way out, in pieces.
#[derive(Debug)]
pub struct ArchiveOutput {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
}

impl ArchiveOutput {
    /// What `write` writes on a thread that may block, while it is read.
    pub(crate) fn of(
        place: ArchivePlace,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> ArchiveOutput {
        let (pieces, output) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            let writer = PieceWriter {
                pieces: pieces.clone(),
                place,
            };
            let mut writer = io::BufWriter::with_capacity(PIECE, writer);
            if let Err(error) = write(&mut writer).and_then(|()| writer.flush()) {
                tracing::warn!(%error, "an archive was not written to its end");
                // The client sees that the archive is cut. One that has gone sees nothing, and one that does not read sees that
                // there is nothing more.
                let _ = pieces.try_send(Err(error));
            }
        });
        ArchiveOutput { pieces: output }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.pieces.recv().await
    }
}

/// The end that a thread writes an archive to.
struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    place: ArchivePlace,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.pieces.send(Ok(Bytes::copy_from_slice(bytes)));
        match self.place.wait_for(sent)? {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an import makes of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportRequest {
    /// The image's name, if it gets one.
    pub name: Option<String>,
    /// What it is for.
    pub platform: PlatformName,
    /// A comment on it.
    pub comment: String,
    /// How its containers run.
    pub config: ImageConfig,
}

impl ImportRequest {
    /// The image's configuration without layers (image-spec, config.md).
    fn document(&self) -> Result<Value> {
        self.config.check()?;
        let now = Timestamp::now().to_string();
        let mut document = json!({
            "created": now,
            "os": self.platform.os,
            "architecture": self.platform.architecture,
            "config": self.config.to_json()?,
            "history": [{ "created": now, "comment": self.comment }],
        });
        if !self.platform.variant.is_empty() {
            document["variant"] = self.platform.variant.as_str().into();
        }
        Ok(document)
    }
}

impl Images {
    /// Writes images as one archive, while it is read. Fails if one of them is not there.
    pub(crate) async fn save(&self, names: Vec<String>) -> Result<ArchiveOutput> {
        let mut ids = BTreeSet::new();
        for name in &names {
            ids.extend(self.saveable(name).await?);
        }
        let (store, events) = (self.store.clone(), self.events.clone());
        let output = self.write_archive(move |writer| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            store.save(&names, &mut *writer).map_err(io::Error::other)?;
            writer.flush()?;
            for id in ids {
                events.image("save", &id, &id);
            }
            Ok(())
        });
        Ok(output.await)
    }

    /// An archive that `write` writes on a thread that may block, while it is read.
    pub(crate) async fn write_archive(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> ArchiveOutput {
        ArchiveOutput::of(self.archives.take().await, write)
    }

    /// The images that a name, an identifier, or a repository some of whose tags are there leads to.
    async fn saveable(&self, name: &str) -> Result<Vec<String>> {
        match self.resolve(name).await {
            Err(EngineError::NoSuchImage(shown)) => {
                let reference = parse(name)?;
                let repositories = reference.repositories();
                let of_it = |full: &String| {
                    full.rsplit_once(':')
                        .is_some_and(|(of, _)| repositories.iter().any(|own| own == of))
                };
                let all = !reference.has_tag() && reference.digest().is_none();
                let images = match all {
                    true => self.summaries().await?,
                    false => Vec::new(),
                };
                let found = images
                    .into_iter()
                    .filter(|image| image.references.iter().any(of_it));
                let ids: Vec<String> = found.map(|image| image.id).collect();
                match ids.is_empty() {
                    true => Err(EngineError::NoSuchImage(shown)),
                    false => Ok(ids),
                }
            }
            found => found.map(|image| vec![image.id]),
        }
    }

    /// Reads an archive of images while it is written: all of them, or those for one platform.
    pub(crate) fn load(&self, platform: Option<&str>) -> Result<(ArchiveInput, Follower<()>)> {
        let wanted = platform
            .map(|platform| remote::platform(Some(platform)))
            .transpose()?;
        let (store, events) = (self.store.clone(), self.events.clone());
        let (writer, reader) = pipe();
        let places = self.archives.clone();
        let follower = Follower::alone(|board| async move {
            let reader = reader.at(places.take().await);
            let (told, chosen) = (board.clone(), wanted.clone());
            let loaded = store_call(&store, "load images", move |store| {
                let suits = chosen.map(|wanted| move |own: &Platform| suits(own, &wanted));
                let suits = suits.as_ref().map(|suits| suits as &WantedPlatform<'_>);
                Ok(store.load_with(reader, suits, &mut |layer| tell(&told, &layer))?)
            })
            .await?;
            if let Some(wanted) = wanted.filter(|_| loaded.is_empty()) {
                return Err(ImageFailure::new(
                    ErrorKind::NotFound,
                    format!(
                        "requested platform ({}) not found: image might be filtered out",
                        describe_platform(&wanted)
                    ),
                ));
            }
            for Loaded { image, references } in loaded {
                events.image("load", &image.id, &image.id);
                board.event(ImageEvent::Loaded {
                    id: image.id,
                    names: references.iter().map(|name| familiar(name).to_owned()).collect(),
                });
            }
            Ok(())
        });
        Ok((ArchiveInput(writer), follower))
    }

    /// Makes an image of the archive of a root file system while it is written.
    pub(crate) fn import(&self, request: ImportRequest) -> Result<(ArchiveInput, Follower<()>)> {
        let importing = Importing::new(self, request)?;
        let (writer, reader) = pipe();
        let follower = Follower::alone(|board| async move { importing.read(reader, &board).await });
        Ok((ArchiveInput(writer), follower))
    }

    /// Makes an image of the archive of a root file system that a web server has.
    pub(crate) async fn import_url(&self, request: ImportRequest, url: &str) -> Result<Follower<()>> {
        let importing = Importing::new(self, request)?;
        let download = self.registry.download(url).await;
        let download = download.map_err(|error| ImageFailure::of_download(&error))?;
        let (writer, reader) = pipe();
        Ok(Follower::alone(|board| async move {
            board.event(ImageEvent::Line {
                about: String::new(),
                text: format!("Downloading from {}", download.source()),
            });
            let (fetched, imported) =
                tokio::join!(fetch(download, writer, &board), importing.read(reader, &board));
            // What the server did wrong is the cause of what the store then complains of.
            fetched.and(imported)
        }))
    }
}

/// Tells how far a layer of an archive is.
fn tell(board: &ImageBoard, layer: &LayerProgress<'_>) {
    let bytes = Progress {
        current: layer.read,
        total: layer.size,
    };
    let state = match layer.stored {
        true => LayerState::Loaded(bytes),
        false => LayerState::Loading(bytes),
    };
    board.layer(&shown(layer.layer), state);
}

/// A layer of an archive as people are told of it: the beginning of its digest, or of what the archive calls it.
fn shown(layer: &str) -> String {
    let first = layer.split(['/', '.']).next().unwrap_or_default();
    first
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(SHOWN_DIGITS)
        .collect()
}

/// Writes what comes from a web server into the store, as fast as that takes it.
async fn fetch(mut download: Download, writer: PipeWriter, board: &ImageBoard) -> Result<(), ImageFailure> {
    let mut progress = Progress {
        current: 0,
        total: download.length().unwrap_or_default(),
    };
    loop {
        match download.chunk().await {
            Ok(Some(piece)) if piece.is_empty() => {}
            Ok(Some(piece)) => {
                progress.current += piece.len() as u64;
                board.layer("", LayerState::Importing(progress));
                if writer.write(piece).await.is_err() {
                    // The store says why.
                    return Ok(());
                }
            }
            Ok(None) => break,
            Err(error) => {
                let failure = ImageFailure::of_download(&error);
                writer.fail(&failure.message).await;
                return Err(failure);
            }
        }
    }
    board.layer("", LayerState::Imported(progress));
    writer.finish().await;
    Ok(())
}

/// An image that is being made of a root file system.
struct Importing {
    store: ImageStore,
    archives: ArchivePlaces,
    events: Events,
    name: Option<Reference>,
    document: Value,
}

impl Importing {
    fn new(images: &Images, request: ImportRequest) -> Result<Self> {
        let name = request.name.as_deref().map(parse).transpose()?;
        if name.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(EngineError::Invalid("cannot import digest reference".into()));
        }
        Ok(Self {
            store: images.store.clone(),
            archives: images.archives.clone(),
            events: images.events.clone(),
            name,
            document: request.document()?,
        })
    }

    async fn read(self, archive: PipeReader, board: &ImageBoard) -> Result<(), ImageFailure> {
        let Self {
            store,
            archives,
            events,
            name,
            document,
        } = self;
        let archive = archive.at(archives.take().await);
        let tag = name.as_ref().map(Reference::storage_name);
        let image = store_call(&store, "import an image", move |store| {
            Ok(store.import(archive, name.as_ref(), document)?)
        });
        let id = image.await?.id;
        events.image("import", &id, &id);
        if let Some(tag) = tag {
            events.image("tag", &id, familiar(&tag));
        }
        board.event(ImageEvent::Imported(id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_layer_is_shown_by_the_beginning_of_its_digest_or_name() {
        let digits = "0123456789abcdef".repeat(4);
        for layer in [
            digits.clone(),
            format!("{digits}.tar"),
            format!("{digits}/layer.tar"),
        ] {
            assert_eq!(shown(&layer), "0123456789ab");
        }
        assert_eq!(shown("\u{1b}[2Jevil/../x"), "2Jevil");
        assert_eq!(shown(""), "");
    }
}
