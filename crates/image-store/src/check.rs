//! Looking for damage, and taking out what is damaged, so that it can be brought again.

use crate::digest::Digest;
use crate::store::{ImageStore, Result};

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Images in the catalog.
    pub images: u64,
    /// Manifests, configurations and layers as they came.
    pub blobs: u64,
    /// File system images.
    pub layers: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong. Empty: the store is clean.
    pub problems: Vec<Problem>,
}

/// Something damaged. It was taken out of the store: pulling or loading one of its images again heals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is damaged.
    pub object: DamagedObject,
    /// What is wrong with it.
    pub what: String,
    /// The images that need it: their names, or identifiers of those without one.
    pub images: Vec<String>,
}

/// An object of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DamagedObject {
    /// A manifest, configuration or layer as it came.
    Blob(Digest),
    /// A layer's file system image, by the digest of its uncompressed archive.
    Layer(Digest),
    /// The catalog itself.
    Catalog,
}

impl ImageStore {
    /// Reads everything in the store and compares it with its digests and checksums. Other uses go on meanwhile.
    pub fn check(&self) -> Result<CheckReport> {
        todo!()
    }
}
