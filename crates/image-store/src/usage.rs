//! How much the images take on the disk.

use crate::digest::Digest;
use crate::image::ImageSummary;
use crate::store::{ImageStore, Result};
use std::collections::{BTreeMap, BTreeSet};

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
        let catalog = &self.shared.catalog;
        let (blobs, layers) = (catalog.blobs()?, catalog.layers()?);
        let sizes: BTreeMap<Digest, u64> = layers
            .iter()
            .map(|layer| (layer.diff_id, layer.files_size))
            .collect();
        // Several manifests of one image may name a layer in several compressions: its files count once.
        let mut layers_of: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (image, layers) in catalog.contents()? {
            let diff_ids = layers.iter().map(|layer| layer.diff_id);
            layers_of.entry(image.config).or_default().extend(diff_ids);
        }
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        for diff_id in layers_of.values().flatten() {
            *users.entry(*diff_id).or_default() += 1;
        }
        let size = |diff_id: &Digest| sizes.get(diff_id).copied().unwrap_or(0);
        let usage = |image: crate::catalog::NamedImage| {
            let layers = layers_of.get(&image.row.config).into_iter().flatten();
            let (shared, unique): (Vec<&Digest>, Vec<&Digest>) =
                layers.partition(|diff_id| users.get(diff_id).is_some_and(|count| *count > 1));
            ImageUsage {
                image: image.into(),
                shared_size: shared.into_iter().map(size).sum(),
                unique_size: unique.into_iter().map(size).sum(),
            }
        };
        Ok(Usage {
            layers_size: users.keys().map(size).sum(),
            disk_size: blobs.iter().map(|blob| blob.size).sum::<u64>()
                + layers.iter().map(|layer| layer.disk_size).sum::<u64>(),
            images: catalog.images()?.into_iter().map(usage).collect(),
        })
    }
}
