//! Images as archives: saving, loading, importing. Archives are streams: neither end holds one in memory.

use std::io::{self, Write};

use bytes::Bytes;
use image_store::{ImageConfiguration, Loaded};
use tokio::sync::mpsc;

use super::names::{familiar, parse};
use super::pipe::{PipeWriter, pipe};
use super::transfers::Follower;
use super::{Images, store_call};
use crate::{EngineError, Result};

/// Pieces of an archive that wait for its reader at most.
const PIECES: usize = 8;
/// The size of such a piece in bytes.
const PIECE: usize = 128 << 10;

/// What is written to load or import an image: pieces of an archive, then [`ArchiveInput::finish`].
#[derive(Debug)]
pub struct ArchiveInput(PipeWriter);

impl ArchiveInput {
    /// Writes a piece; `false` when nothing more is wanted.
    pub async fn write(&self, piece: Bytes) -> bool {
        piece.is_empty() || self.0.write(piece).await.is_ok()
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
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.pieces.recv().await
    }
}

/// The end that a thread writes an archive to.
struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pieces.blocking_send(Ok(Bytes::copy_from_slice(bytes))) {
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
    /// Its configuration without layers.
    pub config: ImageConfiguration,
}

impl Images {
    /// Writes images as one archive, while it is read. Fails if one of them is not there.
    pub(crate) async fn save(&self, names: Vec<String>) -> Result<ArchiveOutput> {
        for name in &names {
            self.check_saveable(name).await?;
        }
        let (pieces, output) = mpsc::channel(PIECES);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut writer = io::BufWriter::with_capacity(
                PIECE,
                PieceWriter {
                    pieces: pieces.clone(),
                },
            );
            let saved = store
                .save(&names, &mut writer)
                .map_err(io::Error::other)
                .and_then(|()| writer.flush());
            if let Err(error) = saved {
                tracing::warn!(%error, "an archive was not written to its end");
                // The client sees that the archive is cut. One that has gone sees nothing.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        Ok(ArchiveOutput { pieces: output })
    }

    /// A name, an identifier, or a repository some of whose tags are there.
    async fn check_saveable(&self, name: &str) -> Result<()> {
        match self.resolve(name).await {
            Err(EngineError::NoSuchImage(shown)) => {
                let reference = parse(name)?;
                let repositories = reference.repositories();
                let of_it = |full: &String| {
                    full.rsplit_once(':')
                        .is_some_and(|(of, _)| repositories.iter().any(|own| own == of))
                };
                let all = !reference.has_tag() && reference.digest().is_none();
                let any = all
                    && self
                        .summaries()
                        .await?
                        .iter()
                        .any(|image| image.references.iter().any(of_it));
                if any {
                    Ok(())
                } else {
                    Err(EngineError::NoSuchImage(shown))
                }
            }
            found => found.map(drop),
        }
    }

    /// Reads an archive of images while it is written.
    pub(crate) fn load(&self) -> (ArchiveInput, Follower<Vec<LoadedImage>>) {
        let store = self.store.clone();
        let (writer, reader) = pipe();
        let follower = Follower::alone(|_| async move {
            let loaded = store_call(&store, "load images", move |store| Ok(store.load(reader)?)).await?;
            Ok(loaded.into_iter().map(LoadedImage::from).collect())
        });
        (ArchiveInput(writer), follower)
    }

    /// Makes an image of the archive of a root file system while it is written; the image's identifier.
    pub(crate) fn import(&self, request: ImportRequest) -> Result<(ArchiveInput, Follower<String>)> {
        let name = request.name.as_deref().map(parse).transpose()?;
        if name.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(EngineError::Invalid("cannot import digest reference".into()));
        }
        let store = self.store.clone();
        let (writer, reader) = pipe();
        let follower = Follower::alone(|_| async move {
            let image = store_call(&store, "import an image", move |store| {
                Ok(store.import(reader, name.as_ref(), request.config)?)
            });
            Ok(image.await?.id)
        });
        Ok((ArchiveInput(writer), follower))
    }
}

/// An image that came out of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its identifier: `sha256:HEX`.
    pub id: String,
    /// The names that it got, as people write them.
    pub names: Vec<String>,
}

impl From<Loaded> for LoadedImage {
    fn from(loaded: Loaded) -> Self {
        Self {
            id: loaded.image.id,
            names: loaded
                .references
                .iter()
                .map(|name| familiar(name).to_owned())
                .collect(),
        }
    }
}
