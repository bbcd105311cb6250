//! What the store tells of an image.

use crate::digest::Digest;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A complete image.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// `sha256:HEX` of the configuration.
    pub id: String,
    /// `sha256:HEX` of the manifest.
    pub manifest_digest: String,
    /// The full names with tags that lead to it, like `localhost/busybox:latest`, in order. May be empty.
    pub references: Vec<String>,
    /// The full names with digests that lead to it, like `localhost/busybox@sha256:…`, in order: where it was
    /// pulled from or pushed to. The digest may be that of an index.
    pub digests: Vec<String>,
    /// How its containers are to run.
    pub config: ImageConfiguration,
    /// What Docker's images say of it beyond that.
    pub docker: DockerConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// The size of the files of all its layers in bytes, as Docker tells it.
    pub size: u64,
    /// When it was made (RFC 3339), if it says so.
    pub created: Option<String>,
}

/// The members that Docker adds to an OCI image's configuration, below `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DockerConfig {
    /// How to tell whether a container is well.
    pub healthcheck: Option<ImageHealthCheck>,
    /// What commands in shell form are run with; `None` is `/bin/sh -c`.
    pub shell: Option<Vec<String>>,
    /// Instructions for builds on top of it.
    pub on_build: Option<Vec<String>>,
}

/// A health check as images have it. Durations are in nanoseconds; 0 of anything is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageHealthCheck {
    /// `NONE`; `CMD` and the words of a command; or `CMD-SHELL` and a line for a shell. Nothing is what the base image says.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// From the end of one check to the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long a check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long failures do not count after a start.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// The interval meanwhile.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// Go writes what is empty as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A layer of an image, shared with all images that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// `sha256:HEX` of the uncompressed archive.
    pub diff_id: String,
    /// Its EROFS image: read-only and never changed as long as an image or a [`Hold`](crate::Hold) has it.
    pub path: PathBuf,
    /// The size of its files in bytes.
    pub size: u64,
}

/// What a list of images tells of one: all of it is in the catalog, no other file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// `sha256:HEX` of the configuration.
    pub id: String,
    /// `sha256:HEX` of the manifest.
    pub manifest_digest: String,
    /// The full names with tags that lead to it, in order.
    pub references: Vec<String>,
    /// The full names with digests that lead to it, in order.
    pub digests: Vec<String>,
    /// When it was made (RFC 3339), if it says so.
    pub created: Option<String>,
    /// The size of the files of all its layers in bytes.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl ImageSummary {
    /// Whether no name with a tag leads to it.
    pub fn is_dangling(&self) -> bool {
        self.references.is_empty()
    }
}

/// What a manifest or a push says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobDescriptor {
    /// Its media type.
    pub media_type: String,
    /// The digest of its content.
    pub digest: Digest,
    /// The length of its content in bytes.
    pub size: u64,
}

/// A step of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image's identifier for its last step, `<missing>` for the others.
    pub id: String,
    /// When it was made (RFC 3339).
    pub created: Option<String>,
    /// What made it.
    pub created_by: String,
    /// A comment on it.
    pub comment: String,
    /// The size of the files of its layer in bytes; 0 if it made none.
    pub size: u64,
    /// The full names that lead to the image after this step.
    pub references: Vec<String>,
}
