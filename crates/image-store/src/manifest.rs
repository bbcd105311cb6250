//! Manifests and configurations (OCI image specification, manifest.md and config.md; Docker's version 2,
//! schema 2): what they must hold so that an image can be made of them.

use crate::blob::BlobId;
use crate::digest::{Digest, DigestError};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, Platform};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// The largest index, manifest or configuration, in bytes.
pub(crate) const MAX_JSON: u64 = 8 << 20;
/// Layers of one image: as many as Docker allows.
pub(crate) const MAX_LAYERS: usize = 127;
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX_TYPES: [&str; 2] = [
    OCI_INDEX,
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    OCI_MANIFEST,
    "application/vnd.docker.distribution.manifest.v2+json",
];
const LAYER_TYPES: [&str; 2] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
];

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is malformed.
    #[error("{what} is malformed: {source}")]
    Json {
        /// Which document.
        what: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It is too large.
    #[error("{what} has {size} bytes; {MAX_JSON} are possible")]
    TooLarge {
        /// Which document.
        what: String,
        /// Its size.
        size: u64,
    },
    /// A descriptor has a digest that cannot be checked.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A descriptor points to something else than an image.
    #[error("blob {digest} has the media type `{}`, which is no image", .media_type.escape_debug())]
    MediaType {
        /// The blob.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// Manifest and configuration contradict each other.
    #[error("the manifest has {layers} layers, the configuration has {diff_ids}")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Layers in the configuration.
        diff_ids: usize,
    },
    /// There are too many layers.
    #[error("the image has {0} layers; {MAX_LAYERS} are possible")]
    TooManyLayers(usize),
    /// A layer is no archive.
    #[error("layer {digest} has the media type `{}`, which is no file system layer", .media_type.escape_debug())]
    LayerType {
        /// The layer's blob.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
}

/// The kinds of document that a descriptor may point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    Index,
    Manifest,
}

impl DocumentKind {
    /// By media type.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        if INDEX_TYPES.contains(&media_type) {
            return Some(Self::Index);
        }
        MANIFEST_TYPES.contains(&media_type).then_some(Self::Manifest)
    }
}

/// What a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestContents {
    pub(crate) config: BlobId,
    pub(crate) config_media_type: String,
    /// Bottom first, with their media types.
    pub(crate) layers: Vec<(BlobId, String)>,
}

impl ManifestContents {
    /// Reads the manifest with this digest.
    pub(crate) fn parse(content: &[u8], digest: &Digest) -> Result<Self, ManifestError> {
        let document: ImageManifest = parse(content, &format!("manifest {digest}"))?;
        let layers = document.layers().iter().map(|layer| {
            let (id, media_type) = (blob_id(layer)?, layer.media_type().to_string());
            check_layer_type(&id.digest, &media_type)?;
            Ok((id, media_type))
        });
        Ok(Self {
            config: blob_id(document.config())?,
            config_media_type: document.config().media_type().to_string(),
            layers: layers.collect::<Result<_, ManifestError>>()?,
        })
    }
}

/// What the catalog keeps of a configuration.
#[derive(Debug)]
pub(crate) struct ConfigContents {
    pub(crate) created: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// The digests of the layers' archives, bottom first.
    pub(crate) diff_ids: Vec<Digest>,
    /// Operating system and processor.
    pub(crate) platform: (String, String),
}

impl ConfigContents {
    /// Reads the configuration with this digest, which belongs to an image of `layers` layers.
    pub(crate) fn parse(content: &[u8], digest: &Digest, layers: usize) -> Result<Self, ManifestError> {
        let config: ImageConfiguration = parse(content, &format!("configuration {digest}"))?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != layers {
            return Err(ManifestError::LayerCount {
                layers,
                diff_ids: diff_ids.len(),
            });
        }
        if layers > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(layers));
        }
        let diff_ids = diff_ids.iter().map(|text| text.parse());
        let labels = config
            .config()
            .as_ref()
            .and_then(|config| config.labels().clone());
        Ok(Self {
            created: config.created().clone(),
            labels: labels.unwrap_or_default().into_iter().collect(),
            diff_ids: diff_ids.collect::<Result<_, DigestError>>()?,
            platform: (config.os().to_string(), config.architecture().to_string()),
        })
    }
}

/// The platform that an image is for.
pub fn platform_of(config: &ImageConfiguration) -> Platform {
    let mut platform = Platform::default();
    platform.set_os(config.os().clone());
    platform.set_architecture(config.architecture().clone());
    platform.set_variant(config.variant().clone());
    platform
}

/// Whether a layer of this media type is a file system's.
pub(crate) fn check_layer_type(digest: &Digest, media_type: &str) -> Result<(), ManifestError> {
    match LAYER_TYPES.iter().any(|prefix| media_type.starts_with(prefix)) {
        true => Ok(()),
        false => Err(ManifestError::LayerType {
            digest: *digest,
            media_type: media_type.to_owned(),
        }),
    }
}

/// Reads a JSON document; `what` it is, for messages.
pub(crate) fn parse<T: DeserializeOwned>(content: &[u8], what: &str) -> Result<T, ManifestError> {
    serde_json::from_slice(content).map_err(|source| ManifestError::Json {
        what: what.to_owned(),
        source,
    })
}

/// What a descriptor promises.
pub(crate) fn blob_id(descriptor: &Descriptor) -> Result<BlobId, DigestError> {
    Ok(BlobId {
        digest: descriptor.digest().as_ref().parse()?,
        size: descriptor.size(),
    })
}
