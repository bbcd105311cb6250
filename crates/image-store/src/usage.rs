//! How much the images take on the disk.

use crate::image::ImageSummary;
use crate::store::{ImageStore, Result};

/// What all images take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The files of all layers, each once, in bytes, as Docker tells it.
    pub layers_size: u64,
    /// What the store takes on the disk in bytes: layers as they came and their file system images.
    pub disk_size: u64,
    /// Each image.
    pub images: Vec<ImageUsage>,
}

/// What one image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub image: ImageSummary,
    /// The files of the layers that it shares with other images, in bytes.
    pub shared_size: u64,
    /// The files of the layers that only it has, in bytes.
    pub unique_size: u64,
}

impl ImageStore {
    /// What the images take, for `system df`.
    pub fn usage(&self) -> Result<Usage> {
        todo!()
    }
}
