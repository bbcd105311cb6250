//! The two documents of a cache: the manifest, and the configuration that it names.

use std::collections::HashMap;

use image_store::{BlobDescriptor, Digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The media type of the configuration of a cache that is no image.
pub(super) const CONFIG_TYPE: &str = "application/vnd.hull.build.cache.config.v1+json";
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The member of a configuration that has the steps.
const MEMBER: &str = "hull.build.cache.v1";
/// The largest manifest and the largest configuration, in bytes.
pub const MOST_CACHE_BYTES: u64 = 4 << 20;
/// The most steps and the most layers of a cache.
pub(super) const MOST: usize = 8192;

/// Why there is no cache in two documents that came from elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum CacheFormatError {
    /// A document is larger than any cache's.
    #[error("its {what} has more than {MOST_CACHE_BYTES} bytes")]
    TooLarge {
        /// Which one.
        what: &'static str,
    },
    /// A document is no JSON, or other JSON.
    #[error("its {what} is not understood: {source}")]
    Json {
        /// Which one.
        what: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The documents contradict each other.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is an image without one.
    #[error("it carries no build cache; make one with --cache-to")]
    None,
}

/// A step as the configuration tells it. It does not tell the instruction, which may hold build arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepRecord {
    /// What it was made of.
    pub(super) key: Digest,
    /// Which of the manifest's layers it has made, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<usize>,
    /// Whether it is the whole image, of which only the time is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_image: bool,
    pub(super) created: String,
}

/// The steps, as a name and a value in a configuration.
pub(super) fn member(steps: &[StepRecord]) -> (String, Value) {
    (MEMBER.to_owned(), json!({ "steps": steps }))
}

/// The configuration of a cache with these layers.
pub(super) fn configuration(steps: &[StepRecord], diff_ids: &[&str]) -> Vec<u8> {
    let (name, steps) = member(steps);
    let document = json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids }, name: steps });
    document.to_string().into_bytes()
}

/// What a manifest names. It may be an image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheManifest {
    /// The configuration.
    pub config: BlobDescriptor,
    /// Bottom first, where it is an image's.
    pub layers: Vec<BlobDescriptor>,
}

#[derive(Deserialize)]
struct ManifestDocument {
    config: DescriptorDocument,
    #[serde(default)]
    layers: Vec<DescriptorDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorDocument {
    media_type: String,
    digest: Digest,
    size: u64,
}

impl From<DescriptorDocument> for BlobDescriptor {
    fn from(document: DescriptorDocument) -> Self {
        Self {
            media_type: document.media_type,
            digest: document.digest,
            size: document.size,
        }
    }
}

impl CacheManifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheFormatError> {
        let document: ManifestDocument = parse(bytes, "manifest")?;
        if document.config.size > MOST_CACHE_BYTES {
            return Err(CacheFormatError::TooLarge {
                what: "configuration",
            });
        }
        Ok(Self {
            config: document.config.into(),
            layers: document.layers.into_iter().map(BlobDescriptor::from).collect(),
        })
    }
}

/// A cache of another machine, read and checked. Its layers are elsewhere.
#[derive(Debug, Default)]
pub struct PortableCache {
    pub(super) steps: HashMap<Digest, PortableStep>,
    /// The times of whole images.
    pub(super) images: HashMap<Digest, String>,
}

/// A step that was carried out elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortableStep {
    /// The blob of its layer, and the digest of the archive in it.
    pub(super) layer: Option<(BlobDescriptor, Digest)>,
    pub(super) created: String,
}

#[derive(Deserialize)]
struct ConfigDocument {
    rootfs: RootfsDocument,
    #[serde(rename = "hull.build.cache.v1")]
    cache: Option<CacheDocument>,
}

#[derive(Deserialize)]
struct RootfsDocument {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct CacheDocument {
    steps: Vec<StepRecord>,
}

impl PortableCache {
    /// Reads the configuration that belongs to a manifest with these layers.
    pub fn parse(layers: &[BlobDescriptor], config: &[u8]) -> Result<Self, CacheFormatError> {
        let document: ConfigDocument = parse(config, "configuration")?;
        let Some(CacheDocument { steps }) = document.cache else {
            return Err(CacheFormatError::None);
        };
        let diff_ids = document.rootfs.diff_ids;
        let damaged = |what: String| Err(CacheFormatError::Damaged(what));
        if diff_ids.len() != layers.len() {
            return damaged(format!(
                "its manifest has {} layers, its configuration {}",
                layers.len(),
                diff_ids.len()
            ));
        }
        if steps.len() > MOST || layers.len() > MOST {
            return damaged(format!("it has more than {MOST} steps or layers"));
        }
        let mut cache = Self::default();
        for step in steps {
            if step.created.parse::<Timestamp>().is_err() {
                return damaged(format!("a step was made at {:?}", step.created));
            }
            if step.is_image {
                cache.images.insert(step.key, step.created);
                continue;
            }
            let place = |index: usize| Some((layers.get(index)?.clone(), *diff_ids.get(index)?));
            let layer = match step.layer.map(place) {
                Some(None) => return damaged("a step has a layer that the manifest has not".into()),
                found => found.flatten(),
            };
            let created = step.created;
            let known = PortableStep { layer, created };
            cache.steps.insert(step.key, known);
        }
        Ok(cache)
    }

    /// How many steps it has.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Reads one of the two.
fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, CacheFormatError> {
    if bytes.len() as u64 > MOST_CACHE_BYTES {
        return Err(CacheFormatError::TooLarge { what });
    }
    serde_json::from_slice(bytes).map_err(|source| CacheFormatError::Json { what, source })
}
