//! Images that are made step by step: what a build does.

use crate::blob::{BlobId, ExpectedBlob};
use crate::digest::Digest;
use crate::image::{BlobDescriptor, Image};
use crate::ingest::{Ingest, IngestError, StoredLayer};
use crate::layer_file::Keep;
use crate::manifest::{MAX_LAYERS, ManifestError, check_layer_type};
use crate::reading::digests_of;
use crate::reference::Reference;
use crate::store::{ImageStore, Result};
use serde_json::{Map, Value, json};
use std::io::Read;

/// A tar archive without entries: the mark of its end alone.
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

impl Ingest {
    /// Reads a tar archive, compressed or not, as one more layer of an image. One without entries makes no layer.
    pub(crate) fn put_on_top(&self, layers: &mut Vec<StoredLayer>, archive: impl Read) -> Result<()> {
        // Before all of the archive is read in vain.
        check_count(layers.len() + 1)?;
        let expected = ExpectedBlob {
            name: "of the archive".to_owned(),
            size: None,
            digest: None,
        };
        let layer = self.store_layer(archive, &expected, None, Keep::Compressed)?;
        if layer.diff_id != Digest::of(&EMPTY_ARCHIVE) {
            layers.push(layer);
        }
        Ok(())
    }

    /// Makes an image of these layers; `config` says all else of it.
    fn commit_layers(
        &self,
        layers: &[StoredLayer],
        mut config: Map<String, Value>,
        references: &[Reference],
    ) -> Result<Image> {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
        self.put_generated(Value::from(config).to_string().as_bytes(), layers)?;
        self.commit(references)
    }
}

impl ImageStore {
    /// Makes an image of the layers of `base`, of none without one, and on top of them one of a tar archive with whiteouts. An
    /// archive without entries makes no layer. `config` is its configuration (image-spec, config.md) but for the layers. Nothing
    /// of it shows before all of it is there.
    pub fn assemble(
        &self,
        base: Option<&Image>,
        layer: Option<impl Read>,
        config: Map<String, Value>,
        references: &[Reference],
    ) -> Result<Image> {
        let ingest = self.ingest()?;
        let mut layers = self.layers_of_base(&ingest, base)?;
        if let Some(layer) = layer {
            ingest.put_on_top(&mut layers, layer)?;
        }
        ingest.commit_layers(&layers, config, references)
    }

    /// Like [`ImageStore::assemble`], with a layer whose digests are known: those of its blob and of its archive. `source` is
    /// not read if the layer is there, and must have both digests if it is read.
    pub fn assemble_known(
        &self,
        base: Option<&Image>,
        layer: Option<(&BlobDescriptor, &Digest)>,
        source: impl Read,
        config: Map<String, Value>,
    ) -> Result<Image> {
        let ingest = self.ingest()?;
        let mut layers = self.layers_of_base(&ingest, base)?;
        if let Some((layer, diff_id)) = layer {
            check_layer_type(&layer.digest, &layer.media_type).map_err(IngestError::from)?;
            check_count(layers.len() + 1)?;
            let id = BlobId {
                digest: layer.digest,
                size: layer.size,
            };
            layers.push(ingest.bring_layer(source, id, Some(diff_id))?.0);
        }
        ingest.commit_layers(&layers, config, &[])
    }

    fn layers_of_base(&self, ingest: &Ingest, base: Option<&Image>) -> Result<Vec<StoredLayer>> {
        let Some(base) = base else {
            return Ok(Vec::new());
        };
        let (id, manifest) = digests_of(base)?;
        self.layers_below(ingest, &id, &manifest, base.layers.len())
    }
}

fn check_count(layers: usize) -> Result<()> {
    match layers > MAX_LAYERS {
        true => Err(IngestError::from(ManifestError::TooManyLayers(layers)).into()),
        false => Ok(()),
    }
}
