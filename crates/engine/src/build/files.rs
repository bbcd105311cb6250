//! The files of an image as one archive.

use std::io;

use builder::{CopyOptions, LayerTree, Source, Times, Timestamp, What, copy};
use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::images::ArchiveOutput;
use crate::streams::blocking;
use crate::{Engine, EngineError, Result};

/// An archive that is made while it is read.
#[derive(Debug)]
pub struct ImageFiles {
    archive: ArchiveOutput,
    /// Ends the work on it.
    _cancelled: DropGuard,
}

impl ImageFiles {
    /// The next piece; `None` at the end. Nothing comes after an error.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.archive.next().await
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
        let token = CancellationToken::new();
        let cancelled = token.clone().drop_guard();
        // A client that reads slowly keeps no thread from others.
        let place = self.shared.images.places().take().await;
        let archive = ArchiveOutput::of(place, move |output| {
            let _hold = hold;
            let all = Source {
                tree: &tree,
                base: Vec::new(),
                what: What::Path(b"/".to_vec()),
                parents: false,
                unpack: false,
            };
            let created = Timestamp::default();
            let options = CopyOptions {
                token,
                ..CopyOptions::to(b"/", Times::Kept { created })
            };
            let copied = copy(&LayerTree::default(), &[all], &options, &folder, output);
            copied.map(drop).map_err(io::Error::other)
        });
        Ok(ImageFiles {
            archive,
            _cancelled: cancelled,
        })
    }
}
