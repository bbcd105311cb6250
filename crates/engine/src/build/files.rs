//! The files of an image as one archive.

use std::io::{self, Write};

use builder::{CopyOptions, LayerTree, Source, Times, Timestamp, What, copy};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::streams::blocking;
use crate::{Engine, EngineError, Result};

/// Pieces that wait to be read, and the size of each in bytes.
const PIECES: usize = 4;
const PIECE: usize = 128 << 10;

/// An archive that is made while it is read.
#[derive(Debug)]
pub struct ImageFiles(mpsc::Receiver<io::Result<Bytes>>);

impl ImageFiles {
    /// The next piece; `None` at the end. Nothing comes after an error.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.0.recv().await
    }
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Engine {
    /// The files of an image, as its containers find them.
    pub async fn image_files(&self, name: &str) -> Result<ImageFiles> {
        let shared = self.shared.clone();
        let (image, hold) = shared.images.resolve_and_hold(name).await?;
        let tree = blocking("open the layers of an image", move || {
            let open = |layer: &image_store::Layer| {
                let internal = |error: &dyn std::fmt::Display| EngineError::Internal(error.to_string());
                let digest = layer.diff_id.parse().map_err(|error| internal(&error))?;
                shared
                    .builds
                    .layers
                    .open(digest, &layer.path)
                    .map_err(|error| internal(&error))
            };
            Ok(LayerTree::new(
                image.layers.iter().map(open).collect::<Result<_>>()?,
            ))
        });
        let tree = tree.await?;
        let folder = self.shared.builds.temporary().to_owned();
        let (sender, receiver) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            let _hold = hold;
            let all = Source {
                tree: &tree,
                base: Vec::new(),
                what: What::Path(b"/".to_vec()),
                parents: false,
                unpack: false,
            };
            let created = Timestamp::default();
            let options = CopyOptions::to(b"/", Times::Kept { created });
            let mut output = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
            let copied = copy(&LayerTree::default(), &[all], &options, &folder, &mut output);
            let written = copied.map_err(io::Error::other).and_then(|_| output.flush());
            if let Err(error) = written {
                // A reader that has gone needs no error.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(ImageFiles(receiver))
    }
}
