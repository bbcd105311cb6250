//! Reading images, to push or describe them.

use crate::digest::Digest;
use crate::image::{BlobDescriptor, HistoryEntry, Image, ImageSummary};
use crate::reference::Reference;
use crate::store::{ImageStore, Result};
use std::fs::File;

/// A manifest as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Its media type.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl ImageStore {
    /// All images, each once, the newest first.
    pub fn summaries(&self) -> Result<Vec<ImageSummary>> {
        todo!()
    }

    /// Whether an image has this manifest, and nothing of it is missing.
    pub fn has_image(&self, manifest: &Digest) -> Result<bool> {
        let _ = manifest;
        todo!()
    }

    /// Gives the image that `source` means the further name `target`: a tag, which moves here from the image
    /// that had it; or a digest (of the manifest or of an index), which tells where it was pulled from or
    /// pushed to.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<Image> {
        let _ = (source, target);
        todo!()
    }

    /// The manifest of an image.
    pub fn manifest(&self, image: &Image) -> Result<RawManifest> {
        let _ = image;
        todo!()
    }

    /// The configuration of an image, as it came.
    pub fn raw_config(&self, image: &Image) -> Result<Vec<u8>> {
        let _ = image;
        todo!()
    }

    /// What the manifest of an image names: its layers as they came, bottom first, and its configuration last,
    /// in the order in which a push sends them. A blob occurs once.
    pub fn image_blobs(&self, image: &Image) -> Result<Vec<BlobDescriptor>> {
        let _ = image;
        todo!()
    }

    /// A blob of an image, to be read from its beginning.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let _ = digest;
        todo!()
    }

    /// How an image came to be, the last step first.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryEntry>> {
        let _ = image;
        todo!()
    }
}
