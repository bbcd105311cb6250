//! A root file system's archive to an image of one layer.

use crate::blob::ExpectedBlob;
use crate::compression::Compression;
use crate::digest::Digest;
use crate::image::Image;
use crate::ingest::{Ingest, IngestError, StoredLayer};
use crate::layer_file::Keep;
use crate::manifest::{ManifestError, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::reference::Reference;
use crate::store::{ImageStore, Result, StoreError};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Read;

impl ImageStore {
    /// Makes an image of one layer from the tar archive of a root file system, compressed or not. `config` is
    /// its configuration (image-spec, config.md) but for `rootfs`, which is filled in here.
    pub fn import(
        &self,
        input: impl Read,
        reference: Option<&Reference>,
        config: impl Serialize,
    ) -> Result<Image> {
        if let Some(reference) = reference.filter(|reference| reference.digest().is_some()) {
            return Err(StoreError::ReferenceWithDigest(reference.clone()));
        }
        let ingest = self.ingest()?;
        let archive = ExpectedBlob {
            name: "of the archive".to_owned(),
            size: None,
            digest: None,
        };
        let layer = ingest.store_layer(input, &archive, None, Keep::Compressed)?;
        let malformed = |source| {
            IngestError::from(ManifestError::Json {
                what: "the configuration".to_owned(),
                source,
            })
        };
        let mut config = serde_json::to_value(config).map_err(malformed)?;
        config["rootfs"] = json!({ "type": "layers", "diff_ids": [layer.diff_id] });
        ingest.put_generated(config.to_string().as_bytes(), &[layer])?;
        ingest.commit(reference.map(std::slice::from_ref).unwrap_or_default())
    }
}

impl Ingest {
    /// Takes a configuration and makes a manifest for it and these layers; the digests of both.
    pub(crate) fn put_generated(&self, config: &[u8], layers: &[StoredLayer]) -> Result<(Digest, Digest)> {
        let id = Digest::of(config);
        self.put_document(id, config)?;
        let layers: Vec<Value> = layers.iter().map(descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": { "mediaType": OCI_CONFIG, "digest": id, "size": config.len() },
            "layers": layers,
        });
        let manifest = self.put_manifest(OCI_MANIFEST, manifest.to_string().as_bytes())?;
        Ok((manifest, id))
    }
}

/// What a manifest says of a layer (manifest.md). The specification has names for gzip and zstd only.
fn descriptor(layer: &StoredLayer) -> Value {
    let suffix = match layer.compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
        Compression::Bzip2 => "+bzip2",
        Compression::Xz => "+xz",
    };
    json!({
        "mediaType": format!("{OCI_LAYER}{suffix}"),
        "digest": layer.blob.digest,
        "size": layer.blob.size,
    })
}
