//! What garbage collection must leave alone.

use crate::image::Image;
use crate::store::{ImageStore, Result};
use std::path::PathBuf;

/// Layers that somebody uses: as long as this lives they are not removed, whatever happens to their images.
#[derive(Debug)]
#[must_use = "dropping it gives the layers free"]
pub struct Hold {}

impl ImageStore {
    /// Holds the layers of an image, for a container that is being made from it.
    pub fn hold(&self, image: &Image) -> Hold {
        let _ = image;
        todo!()
    }

    /// Holds layers by the paths that [`Layer::path`](crate::Layer::path) told, for containers that exist.
    /// Paths that are none of this store's layers are ignored.
    pub fn hold_layers(&self, paths: &[PathBuf]) -> Hold {
        let _ = paths;
        todo!()
    }

    /// Removes every file that no image, no [`Hold`] and no [`Ingest`](crate::Ingest) needs; returns how many
    /// bytes that were on the disk. To be called once after opening, when the layers of all existing containers
    /// are held; removals collect what they free themselves. Does nothing while another process has the store
    /// open.
    pub fn collect_garbage(&self) -> Result<u64> {
        todo!()
    }
}
