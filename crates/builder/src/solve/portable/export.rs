//! From the steps of a build to the documents and layers of a cache.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::str::FromStr;

use image_store::{BlobDescriptor, Digest, Hold, Image, ImageStore, RawManifest, StoreError};
use serde_json::{Value, json};

use super::document::{CONFIG_TYPE, MANIFEST_TYPE, MOST, StepRecord, configuration};
use super::trail::Trail;

/// What of a build goes into a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The steps whose layers the image has.
    #[default]
    Min,
    /// The steps of all stages.
    Max,
}

/// What is no mode.
#[derive(Debug, thiserror::Error)]
#[error("invalid cache mode {0:?}: it is min or max")]
pub struct CacheModeError(String);

impl FromStr for CacheMode {
    type Err = CacheModeError;

    fn from_str(text: &str) -> Result<Self, CacheModeError> {
        match text {
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            other => Err(CacheModeError(other.to_owned())),
        }
    }
}

/// A cache on its way out. Its layers stay in the store as long as this is there.
#[derive(Debug)]
pub struct CacheExport {
    /// The manifest.
    pub manifest: RawManifest,
    /// The descriptor of the configuration.
    pub config: BlobDescriptor,
    /// The configuration.
    pub config_bytes: Vec<u8>,
    /// The layers.
    pub layers: Vec<BlobDescriptor>,
    /// How many steps it has.
    pub steps: usize,
    _holds: Vec<Hold>,
}

impl CacheExport {
    /// Of the steps of a build. What the store has no more of is left out.
    pub fn of(store: &ImageStore, trail: &Trail, mode: CacheMode) -> Result<Self, StoreError> {
        let mut layers = Layers::default();
        let (mut steps, mut keys): (Vec<StepRecord>, HashSet<Digest>) = Default::default();
        let stages = match mode {
            CacheMode::Min => trail.stages.get(..1).unwrap_or(&trail.stages),
            CacheMode::Max => &trail.stages,
        };
        for stage in stages {
            if let Some(image) = &stage.image {
                layers.know(store, image)?;
            }
            for link in &stage.links {
                if steps.len() < MOST
                    && let Some(record) = link.record(|diff_id| layers.place(diff_id))
                    && keys.insert(link.key)
                {
                    steps.push(record);
                }
            }
        }
        let diff_ids: Vec<&str> = layers.taken.iter().map(|(diff_id, _)| diff_id.as_str()).collect();
        let config_bytes = configuration(&steps, &diff_ids);
        let config = BlobDescriptor {
            media_type: CONFIG_TYPE.to_owned(),
            digest: Digest::of(&config_bytes),
            size: config_bytes.len() as u64,
        };
        let blobs: Vec<BlobDescriptor> = layers.taken.into_iter().map(|(_, blob)| blob).collect();
        Ok(Self {
            manifest: manifest(&config, &blobs),
            config,
            config_bytes,
            layers: blobs,
            steps: steps.iter().filter(|step| !step.is_image).count(),
            _holds: layers.holds,
        })
    }

    /// Writes it as the archive of an OCI image layout.
    pub fn save(&self, store: &ImageStore, output: impl Write) -> Result<(), StoreError> {
        store.save_layout(&self.manifest, &[&self.config_bytes], &self.layers, output)
    }
}

/// The layers of a cache.
#[derive(Default)]
struct Layers {
    /// Where the layers of the images so far are, by their digests.
    known: HashMap<String, BlobDescriptor>,
    /// Those that steps have made, in their order, and where each is there.
    taken: Vec<(String, BlobDescriptor)>,
    places: HashMap<String, usize>,
    holds: Vec<Hold>,
}

impl Layers {
    /// Takes note of the layers of an image, if it is still there.
    fn know(&mut self, store: &ImageStore, image: &Image) -> Result<(), StoreError> {
        let (blobs, hold) = match store.layer_blobs(image) {
            Err(StoreError::NotFound { .. } | StoreError::Damaged { .. }) => return Ok(()),
            found => found?,
        };
        self.holds.push(hold);
        for (layer, blob) in image.layers.iter().zip(blobs) {
            self.known.entry(layer.diff_id.clone()).or_insert(blob);
        }
        Ok(())
    }

    /// The place of a layer among those that are taken; it is taken if it is not.
    fn place(&mut self, diff_id: &str) -> Option<usize> {
        if let Some(place) = self.places.get(diff_id) {
            return Some(*place);
        }
        let blob = self.known.get(diff_id)?.clone();
        let place = self.taken.len();
        self.taken.push((diff_id.to_owned(), blob));
        self.places.insert(diff_id.to_owned(), place);
        Some(place)
    }
}

fn manifest(config: &BlobDescriptor, layers: &[BlobDescriptor]) -> RawManifest {
    let describe = |blob: &BlobDescriptor| -> Value {
        json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size })
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": describe(config),
        "layers": layers.iter().map(describe).collect::<Vec<_>>(),
    });
    let bytes = document.to_string().into_bytes();
    RawManifest {
        media_type: MANIFEST_TYPE.to_owned(),
        digest: Digest::of(&bytes),
        bytes,
    }
}
