//! One image coming in.

use crate::blob::{BlobId, ExpectedBlob};
use crate::catalog::{BlobRow, ImageLayerRow, ImageRow, LayerRow};
use crate::compression::Compression;
use crate::digest::Digest;
use crate::holds::Hold;
use crate::image::{BlobDescriptor, Image};
use crate::layer_file::{ImageOutput, Keep, LayerFileError, LayerOutput, read_layer};
use crate::manifest::{ConfigContents, MAX_JSON, ManifestContents, ManifestError, check_layer_type};
use crate::reference::Reference;
use crate::state::{StateError, finish};
use crate::store::{Result, Shared};
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why an image was not taken in. Nothing of it shows in the store.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Its manifest or configuration.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// One of its layers.
    #[error(transparent)]
    Layer(#[from] LayerFileError),
    /// A document is not what its descriptor says.
    #[error("the configuration is damaged: its descriptor says {expected}, its content has {actual}")]
    Document {
        /// The digest in the descriptor.
        expected: Digest,
        /// The digest of the content.
        actual: Digest,
    },
    /// It is not complete.
    #[error("the image is incomplete: {0} is missing")]
    Incomplete(String),
}

/// Whether a layer had to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOutcome {
    /// It was read, verified and written.
    Written,
    /// It was there, or another ingest brought it meanwhile: the source was not read.
    Present,
}

/// One image coming in, from a registry, an archive or a build. Nothing of it shows before [`Ingest::commit`],
/// and what it has brought is held against garbage collection until it is dropped; what was not committed is
/// removed then. Its methods may be called from several threads at once.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
    state: Mutex<IngestState>,
}

#[derive(Debug)]
struct IngestState {
    held: Hold,
    manifest: Option<(String, Digest)>,
    /// Manifests and configurations, by their digests.
    documents: HashMap<Digest, Vec<u8>>,
}

/// A layer that is in the store now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredLayer {
    pub(crate) blob: BlobId,
    pub(crate) diff_id: Digest,
    pub(crate) compression: Compression,
}

impl Ingest {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
            state: Mutex::new(IngestState {
                held: Hold::nothing(shared),
                manifest: None,
                documents: HashMap::new(),
            }),
        }
    }

    /// Whether the blob is there, verified and whole, and its file system image with it; then it is held, and
    /// need not be fetched. `diff_id` is what the configuration says of the layer, where it is known.
    pub fn has_layer(&self, layer: &BlobDescriptor, diff_id: Option<&Digest>) -> Result<bool> {
        let (size, digest) = (layer.size, layer.digest);
        Ok(self
            .find_layer(&digest)?
            .is_some_and(|found| found.size == size && diff_id.is_none_or(|it| found.diff_id == Some(*it))))
    }

    /// Takes a manifest as it came; its digest.
    pub fn put_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        check_length("the manifest", bytes)?;
        let digest = Digest::of(bytes);
        let mut state = self.state();
        state.manifest = Some((media_type.to_owned(), digest));
        state.documents.insert(digest, bytes.to_owned());
        Ok(digest)
    }

    /// Takes a configuration as it came, which must be what its descriptor says.
    pub fn put_config(&self, descriptor: &BlobDescriptor, bytes: &[u8]) -> Result<()> {
        let (expected, actual) = (descriptor.digest, Digest::of(bytes));
        if expected != actual {
            return Err(IngestError::Document { expected, actual }.into());
        }
        self.put_document(actual, bytes)
    }

    /// Takes a configuration that has this digest.
    pub(crate) fn put_document(&self, digest: Digest, bytes: &[u8]) -> Result<()> {
        check_length("the configuration", bytes)?;
        self.state().documents.insert(digest, bytes.to_owned());
        Ok(())
    }

    /// Reads a layer once: its bytes become the kept blob, its files a file system image, and both digests are
    /// checked on the way. At most a few layers are read at once, others wait; while another ingest brings
    /// the same layer this one waits for it and then does not read `source`.
    pub fn put_layer(
        &self,
        layer: &BlobDescriptor,
        diff_id: Option<&Digest>,
        source: impl Read,
    ) -> Result<LayerOutcome> {
        check_layer_type(&layer.digest, &layer.media_type).map_err(IngestError::from)?;
        let id = BlobId {
            digest: layer.digest,
            size: layer.size,
        };
        let (_, outcome) = self.bring_layer(source, id, diff_id)?;
        Ok(outcome)
    }

    /// Makes the image visible under these names (with a tag or with a digest), if it is complete: the manifest
    /// that was put, its configuration and all its layers. A name with a tag moves here from the image that
    /// had it.
    pub fn commit(&self, references: &[Reference]) -> Result<Image> {
        let Some((media_type, manifest)) = self.state().manifest.clone() else {
            return Err(IngestError::Incomplete("its manifest".into()).into());
        };
        let names: Vec<String> = references.iter().map(Reference::storage_name).collect();
        self.commit_manifest(&media_type, &manifest, &names)
    }

    /// A layer by its digest, read from `source` unless it is there.
    pub(crate) fn bring_layer(
        &self,
        source: impl Read,
        id: BlobId,
        diff_id: Option<&Digest>,
    ) -> Result<(StoredLayer, LayerOutcome)> {
        let _claim = self.shared.flights.claim(id.digest);
        let _lock = self.shared.state.lock_blob(&id.digest)?;
        let found = self.find_layer(&id.digest)?.filter(|found| found.size == id.size);
        if let Some(actual) = found.and_then(|found| found.diff_id)
            && diff_id.is_none_or(|expected| actual == *expected)
        {
            let stored = StoredLayer {
                blob: id,
                diff_id: actual,
                compression: self.compression_of(&id.digest)?,
            };
            return Ok((stored, LayerOutcome::Present));
        }
        let stored = self.store_layer(source, &id.into(), diff_id, Keep::AsItCame)?;
        Ok((stored, LayerOutcome::Written))
    }

    pub(crate) fn compression_of(&self, blob: &Digest) -> Result<Compression> {
        let path = self.shared.state.blob(blob);
        let mut start = Vec::new();
        let read = fs::File::open(&path).and_then(|file| file.take(8).read_to_end(&mut start));
        read.map_err(StateError::of("read the blob", &path))?;
        Ok(Compression::of(&start))
    }

    /// Reads a layer whatever is there, and holds it. No file system image is written that is there already.
    pub(crate) fn store_layer(
        &self,
        source: impl Read,
        expected: &ExpectedBlob,
        diff_id: Option<&Digest>,
        keep: Keep,
    ) -> Result<StoredLayer> {
        let Shared {
            state,
            catalog,
            limits,
            flights,
            ..
        } = &*self.shared;
        let _permit = flights.permit();
        let known = |diff_id: &Digest| -> Result<bool> {
            self.state().held.add_layer(*diff_id);
            self.shared.has_layer_file(diff_id)
        };
        let has_image = diff_id.map(known).transpose()?.unwrap_or(false);
        let copy = state.create_temporary()?;
        let image = (!has_image).then(|| state.create_temporary()).transpose()?;
        let scratch = state.create_scratch()?;
        let output = LayerOutput {
            keep,
            blob: copy.as_file(),
            image: image.as_ref().map(|image| ImageOutput {
                file: image.as_file(),
                scratch: &scratch,
            }),
        };
        let read = read_layer(source, expected, diff_id.copied(), output, limits);
        let read = read.map_err(IngestError::from)?;
        self.hold(read.blob.digest, read.diff_id);

        let mut files = vec![(copy, state.blob(&read.blob.digest))];
        let mut layers = Vec::new();
        if let (Some(image), Some(summary)) = (image, read.image)
            && !self.shared.has_layer_file(&read.diff_id)?
        {
            let metadata = image.as_file().metadata();
            let metadata = metadata.map_err(StateError::of("examine", image.path()))?;
            layers.push(LayerRow {
                diff_id: read.diff_id,
                files_size: summary.content,
                image_size: summary.size,
                disk_size: metadata.blocks() * 512,
                checksum: summary.checksum,
            });
            files.push((image, state.layer(&read.diff_id)));
        }
        files.iter().try_for_each(|(file, _)| finish(file))?;
        state.publish(files)?;
        let blob = BlobRow {
            digest: read.blob.digest,
            size: read.blob.size,
            diff_id: Some(read.diff_id),
        };
        catalog.add_files(&[blob], &layers)?;
        Ok(StoredLayer {
            blob: read.blob,
            diff_id: read.diff_id,
            compression: read.compression,
        })
    }

    /// Makes the image with a manifest that was put visible.
    pub(crate) fn commit_manifest(
        &self,
        media_type: &str,
        manifest: &Digest,
        names: &[String],
    ) -> Result<Image> {
        let missing = |what: String| IngestError::Incomplete(what);
        let (contents, config, documents) = {
            let state = self.state();
            let document = |digest: &Digest, what: &str| {
                let bytes = state.documents.get(digest).cloned();
                bytes.ok_or_else(|| missing(format!("{what} {digest}")))
            };
            let bytes = document(manifest, "manifest")?;
            let contents = ManifestContents::parse(&bytes, manifest).map_err(IngestError::from)?;
            let config = document(&contents.config.digest, "configuration")?;
            let documents = [(*manifest, bytes), (contents.config.digest, config.clone())];
            (contents, config, documents)
        };
        let id = contents.config.digest;
        let parsed = ConfigContents::parse(&config, &id, contents.layers.len());
        let config = parsed.map_err(IngestError::from)?;
        let layers = self.layer_rows(&contents, &config)?;
        let mut rows = Vec::new();
        for (digest, bytes) in &documents {
            self.state().held.add_blob(*digest);
            if fs::read(self.shared.state.blob(digest)).ok().as_deref() != Some(bytes) {
                self.shared.state.write_blob(digest, bytes)?;
            }
            rows.push(BlobRow {
                digest: *digest,
                size: bytes.len() as u64,
                diff_id: None,
            });
        }
        let image = ImageRow {
            manifest: *manifest,
            media_type: media_type.to_owned(),
            config: id,
            config_media_type: contents.config_media_type,
            created: config.created,
            size: layers.iter().map(|layer| layer.files_size).sum(),
            labels: config.labels,
        };
        match self.shared.catalog.add_image(&image, &layers, &rows, names)? {
            None => self.shared.image(manifest),
            Some(blob) => Err(missing(format!("layer {blob}")).into()),
        }
    }

    /// The layers of a manifest, which must be there and be what the configuration says.
    fn layer_rows(&self, contents: &ManifestContents, config: &ConfigContents) -> Result<Vec<ImageLayerRow>> {
        let pairs = contents.layers.iter().zip(&config.diff_ids);
        let row = |((id, media_type), diff_id): (&(BlobId, String), &Digest)| {
            let missing = || IngestError::Incomplete(format!("layer {}", id.digest));
            let found = self.find_layer(&id.digest)?.filter(|row| row.size == id.size);
            let actual = found.ok_or_else(missing)?.diff_id.ok_or_else(missing)?;
            if actual != *diff_id {
                return Err(IngestError::from(LayerFileError::DiffId {
                    layer: id.digest.to_string(),
                    expected: *diff_id,
                    actual,
                })
                .into());
            }
            let layer = self.shared.catalog.layer(diff_id)?.ok_or_else(missing)?;
            Ok(ImageLayerRow {
                media_type: media_type.clone(),
                blob: id.digest,
                blob_size: id.size,
                diff_id: *diff_id,
                files_size: layer.files_size,
            })
        };
        pairs.map(row).collect()
    }

    /// A layer's blob that is there, whole, with its file system image. It is held, there or not.
    pub(crate) fn find_layer(&self, digest: &Digest) -> Result<Option<BlobRow>> {
        self.state().held.add_blob(*digest);
        let Some(row) = self.shared.find_blob(digest)? else {
            return Ok(None);
        };
        let Some(diff_id) = row.diff_id else {
            return Ok(None);
        };
        self.state().held.add_layer(diff_id);
        Ok(self.shared.has_layer_file(&diff_id)?.then_some(row))
    }

    fn hold(&self, blob: Digest, diff_id: Digest) {
        let mut state = self.state();
        state.held.add_blob(blob);
        state.held.add_layer(diff_id);
    }

    fn state(&self) -> MutexGuard<'_, IngestState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let files = self.state().held.release();
        // What cannot be removed now is removed by the next collection.
        let _ = self.shared.collect(&files);
    }
}

fn check_length(what: &str, bytes: &[u8]) -> Result<(), IngestError> {
    let size = bytes.len() as u64;
    match size > MAX_JSON {
        true => Err(ManifestError::TooLarge {
            what: what.to_owned(),
            size,
        }
        .into()),
        false => Ok(()),
    }
}
