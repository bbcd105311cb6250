//! Reading images, to push or describe them.

use crate::catalog::NamedImage;
use crate::digest::Digest;
use crate::holds::Hold;
use crate::image::{BlobDescriptor, HistoryEntry, Image, ImageSummary};
use crate::reference::Reference;
use crate::state::StateError;
use crate::store::{ImageStore, Result, Shared, StoreError, split_names};
use std::fs::File;
use std::time::SystemTime;

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

impl From<NamedImage> for ImageSummary {
    fn from(NamedImage { row, names }: NamedImage) -> Self {
        let (references, digests) = split_names(names);
        Self {
            id: row.config.to_string(),
            manifest_digest: row.manifest.to_string(),
            references,
            digests,
            created: row.created,
            size: row.size,
            labels: row.labels,
        }
    }
}

impl ImageStore {
    /// All images, each once, in the order of their identifiers.
    pub fn summaries(&self) -> Result<Vec<ImageSummary>> {
        Ok(self
            .shared
            .catalog
            .images()?
            .into_iter()
            .map(ImageSummary::from)
            .collect())
    }

    /// All images, each once, in the order of their identifiers. This reads a file for each: where a list is
    /// all that is wanted, [`ImageStore::summaries`] is faster. Images that are damaged are left out.
    pub fn list(&self) -> Result<Vec<Image>> {
        let images = self.shared.catalog.images()?;
        let images = images.iter().map(|image| self.shared.image(&image.row.manifest));
        let is_listed = |image: &Result<Image>| {
            !matches!(
                image,
                Err(StoreError::NotFound { .. } | StoreError::Damaged { .. })
            )
        };
        images.filter(is_listed).collect()
    }

    /// Whether an image has this manifest, and nothing of it is missing.
    pub fn has_image(&self, manifest: &Digest) -> Result<bool> {
        let Shared { catalog, .. } = &*self.shared;
        let Some(row) = catalog.image(manifest)? else {
            return Ok(false);
        };
        let has = |digest: &Digest| Ok::<_, StoreError>(self.shared.find_blob(digest)?.is_some());
        if !has(manifest)? || !has(&row.config)? || self.shared.document(&row.config, &row.config).is_err() {
            return Ok(false);
        }
        for layer in catalog.image_layers(manifest)? {
            if !has(&layer.blob)? || !self.shared.has_layer_file(&layer.diff_id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the image that `source` means the further name `target`: a tag, which moves here from the image
    /// that had it; or a digest (of the manifest or of an index), which tells where it was pulled from or
    /// pushed to.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<Image> {
        let manifest = self.shared.find(source)?.manifest;
        match self.shared.catalog.point(&[target.storage_name()], &manifest)? {
            true => self.shared.image(&manifest),
            false => Err(StoreError::NotFound {
                name: source.to_owned(),
            }),
        }
    }

    /// When a name with a tag was last given to an image here, if that was kept.
    pub fn last_tagged(&self, image: &Image) -> Result<Option<SystemTime>> {
        let (id, _) = digests_of(image)?;
        Ok(self.shared.catalog.last_tagged(&id)?)
    }

    /// The manifest of an image.
    pub fn manifest(&self, image: &Image) -> Result<RawManifest> {
        let (id, digest) = digests_of(image)?;
        let row = self
            .shared
            .catalog
            .image(&digest)?
            .ok_or_else(|| StoreError::NotFound {
                name: image.id.clone(),
            })?;
        Ok(RawManifest {
            media_type: row.media_type,
            digest,
            bytes: self.shared.document(&digest, &id)?,
        })
    }

    /// The configuration of an image, as it came.
    pub fn raw_config(&self, image: &Image) -> Result<Vec<u8>> {
        let (id, _) = digests_of(image)?;
        self.shared.document(&id, &id)
    }

    /// What the manifest of an image names: its layers as they came, bottom first, and its configuration last,
    /// in the order in which a push sends them. A blob occurs once.
    pub fn image_blobs(&self, image: &Image) -> Result<Vec<BlobDescriptor>> {
        let (id, manifest) = digests_of(image)?;
        let not_found = || StoreError::NotFound {
            name: image.id.clone(),
        };
        let row = self.shared.catalog.image(&manifest)?.ok_or_else(not_found)?;
        let mut blobs: Vec<BlobDescriptor> = Vec::new();
        for layer in self.shared.catalog.image_layers(&manifest)? {
            if blobs.iter().all(|blob| blob.digest != layer.blob) {
                blobs.push(BlobDescriptor {
                    media_type: layer.media_type,
                    digest: layer.blob,
                    size: layer.blob_size,
                });
            }
        }
        blobs.push(BlobDescriptor {
            media_type: row.config_media_type,
            digest: row.config,
            size: self.shared.document(&id, &id)?.len() as u64,
        });
        for blob in &blobs {
            if self.shared.find_blob(&blob.digest)?.is_none() {
                let what = format!("its blob {} is missing", blob.digest);
                return Err(StoreError::Damaged { id, what });
            }
        }
        Ok(blobs)
    }

    /// The blobs of an image's layers, bottom first, one for each of [`Image::layers`]; they stay as long as the hold does.
    pub fn layer_blobs(&self, image: &Image) -> Result<(Vec<BlobDescriptor>, Hold)> {
        let (id, manifest) = digests_of(image)?;
        let mut hold = Hold::nothing(&self.shared);
        let rows = self.shared.catalog.image_layers(&manifest)?;
        rows.iter().for_each(|row| hold.add_blob(row.blob));
        let blobs = rows.into_iter().map(|row| {
            let what = || format!("its blob {} is missing", row.blob);
            let found = self.shared.find_blob(&row.blob)?;
            found.ok_or_else(|| StoreError::Damaged { id, what: what() })?;
            Ok(BlobDescriptor {
                media_type: row.media_type,
                digest: row.blob,
                size: row.blob_size,
            })
        });
        Ok((blobs.collect::<Result<_>>()?, hold))
    }

    /// A blob of an image, to be read from its beginning.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.shared.state.blob(digest);
        Ok(File::open(&path).map_err(StateError::of("open the blob", &path))?)
    }

    /// How an image came to be, the last step first.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryEntry>> {
        let mut layers = image.layers.iter();
        let steps = image.config.history().iter().flatten().map(|step| {
            let made_layer = step.empty_layer() != Some(true);
            let layer = if made_layer { layers.next() } else { None };
            HistoryEntry {
                id: "<missing>".to_owned(),
                created: step.created().clone(),
                created_by: step.created_by().clone().unwrap_or_default(),
                comment: step.comment().clone().unwrap_or_default(),
                size: layer.map_or(0, |layer| layer.size),
                references: Vec::new(),
            }
        });
        let mut history: Vec<HistoryEntry> = steps.collect();
        history.reverse();
        if let Some(last) = history.first_mut() {
            last.id = image.id.clone();
            last.references = image.references.clone();
        }
        Ok(history)
    }
}

/// The digests of an image's configuration and manifest.
pub(crate) fn digests_of(image: &Image) -> Result<(Digest, Digest)> {
    let parse = |text: &String| {
        text.parse().map_err(|_| StoreError::NotFound {
            name: image.id.clone(),
        })
    };
    Ok((parse(&image.id)?, parse(&image.manifest_digest)?))
}
