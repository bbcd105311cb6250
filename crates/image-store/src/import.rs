//! From an OCI layout directory to an image in the store.

use crate::digest::Digest;
use crate::image::{BlobDescriptor, Image};
use crate::layout::{LayoutError, OciLayout};
use crate::manifest::{ConfigContents, ManifestContents, ManifestError};
use crate::reference::Reference;
use crate::store::{ImageStore, Result, StoreError};
use std::path::{Path, PathBuf};

/// Why an image was not imported.
#[derive(Debug, thiserror::Error)]
#[error("cannot import {} as {reference}: {source}", .layout.display())]
pub struct ImportError {
    /// The layout directory.
    pub layout: PathBuf,
    /// The name it was to get.
    pub reference: String,
    /// What is wrong.
    pub source: ImportFailure,
}

/// What is wrong with a layout directory.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailure {
    /// The directory, its indices and documents.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The manifest or configuration of the image.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The image is for another machine.
    #[error("the image is for {os}/{architecture}, this machine runs linux/amd64")]
    Platform {
        /// The operating system it is for.
        os: String,
        /// The processor it is for.
        architecture: String,
    },
    /// A layer, or the store itself.
    #[error(transparent)]
    Store(#[from] Box<StoreError>),
}

impl From<StoreError> for ImportFailure {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl ImageStore {
    /// Imports an image from an OCI layout directory under the name `reference` (`localhost/` in front if
    /// it has no registry, `:latest` behind if it has no tag). If the layout holds several, the one that
    /// has this name in `index.json`. What is there already is not read again.
    pub fn import_oci_layout(&self, dir: &Path, reference: &str) -> Result<Image> {
        let reference: Reference = reference.parse()?;
        if reference.digest().is_some() {
            return Err(StoreError::ReferenceWithDigest(reference));
        }
        self.import_layout(dir, &reference).map_err(|source| {
            StoreError::Import(Box::new(ImportError {
                layout: dir.to_owned(),
                reference: reference.to_string(),
                source,
            }))
        })
    }

    fn import_layout(&self, dir: &Path, reference: &Reference) -> Result<Image, ImportFailure> {
        let layout = OciLayout::open(dir)?;
        let (manifest, media_type) = layout.find_manifest(reference)?;
        if self.has_image(&manifest.digest)?
            && self
                .shared
                .catalog
                .by_name(&reference.storage_name())
                .map_err(StoreError::from)?
                == Some(manifest.digest)
        {
            return Ok(self.shared.image(&manifest.digest)?);
        }
        let ingest = self.ingest()?;
        let content = layout.read_document(manifest, "manifest")?;
        let contents = ManifestContents::parse(&content, &manifest.digest)?;
        let config_content = layout.read_document(contents.config, "configuration")?;
        let config = ConfigContents::parse(&config_content, &contents.config.digest, contents.layers.len())?;
        check_platform(&config)?;
        ingest.put_manifest(&media_type, &content)?;
        let descriptor = BlobDescriptor {
            media_type: contents.config_media_type,
            digest: contents.config.digest,
            size: contents.config.size,
        };
        ingest.put_config(&descriptor, &config_content)?;
        for ((id, media_type), diff_id) in contents.layers.iter().zip(&config.diff_ids) {
            let layer = BlobDescriptor {
                media_type: media_type.clone(),
                digest: id.digest,
                size: id.size,
            };
            let diff_id: Option<&Digest> = Some(diff_id);
            if !ingest.has_layer(&layer, diff_id)? {
                ingest.put_layer(&layer, diff_id, layout.open_blob(id.digest)?)?;
            }
        }
        Ok(ingest.commit(std::slice::from_ref(reference))?)
    }
}

fn check_platform(config: &ConfigContents) -> Result<(), ImportFailure> {
    let (os, architecture) = config.platform.clone();
    match (os.as_str(), architecture.as_str()) {
        ("linux", "amd64") => Ok(()),
        _ => Err(ImportFailure::Platform { os, architecture }),
    }
}
