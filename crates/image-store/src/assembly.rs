//! Images that are made step by step: what a build does.

use crate::blob::ExpectedBlob;
use crate::digest::Digest;
use crate::image::Image;
use crate::ingest::{Ingest, IngestError, StoredLayer};
use crate::layer_file::Keep;
use crate::manifest::{MAX_LAYERS, ManifestError};
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
        if layers.len() >= MAX_LAYERS {
            let error = ManifestError::TooManyLayers(layers.len() + 1);
            return Err(IngestError::from(error).into());
        }
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
}

impl ImageStore {
    /// Makes an image of the layers of `base`, of none without one, and on top of them one of a tar archive with whiteouts. An
    /// archive without entries makes no layer. `config` is its configuration (image-spec, config.md) but for the layers. Nothing
    /// of it shows before all of it is there.
    pub fn assemble(
        &self,
        base: Option<&Image>,
        layer: Option<impl Read>,
        mut config: Map<String, Value>,
        references: &[Reference],
    ) -> Result<Image> {
        let ingest = self.ingest()?;
        let mut layers = match base {
            Some(base) => {
                let (id, manifest) = digests_of(base)?;
                self.layers_below(&ingest, &id, &manifest, base.layers.len())?
            }
            None => Vec::new(),
        };
        if let Some(layer) = layer {
            ingest.put_on_top(&mut layers, layer)?;
        }
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
        ingest.put_generated(Value::from(config).to_string().as_bytes(), &layers)?;
        ingest.commit(references)
    }
}
