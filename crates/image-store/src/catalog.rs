//! The catalog: one small file that says which images are complete and which names lead to them.

use crate::digest::Digest;
use crate::state::{StateDir, StateError, replace_file};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The form of the file that is written.
const VERSION: u32 = 1;

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file could not be read or replaced.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is not what this program writes.
    #[error("the catalog {} is damaged: {source}; move it away and import the images again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A newer program wrote it.
    #[error("the catalog {} has version {version}, this program knows {VERSION}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// All complete images.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Catalog {
    version: u32,
    /// By the digest of the manifest.
    pub(crate) manifests: BTreeMap<Digest, ManifestRecord>,
    /// From full names such as `localhost/busybox:latest` to manifests.
    pub(crate) references: BTreeMap<String, Digest>,
}

/// What is known of a manifest without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    /// The configuration, whose digest is the image's identifier.
    pub(crate) config: Digest,
    /// Bottom first.
    pub(crate) layers: Vec<LayerRecord>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// The digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// The layer as it came.
    pub(crate) blob: Digest,
    /// The size of its file system image in bytes.
    pub(crate) size: u64,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            version: VERSION,
            manifests: BTreeMap::new(),
            references: BTreeMap::new(),
        }
    }
}

impl Catalog {
    /// The catalog as it is now; empty when there is none.
    pub(crate) fn load(state: &StateDir) -> Result<Self, CatalogError> {
        let path = state.catalog();
        let content = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            result => result.map_err(StateError::of("read", &path))?,
        };
        let catalog = Self::parse(&content, &path)?;
        match catalog.version {
            VERSION => Ok(catalog),
            version => Err(CatalogError::Version { path, version }),
        }
    }

    /// Reads the catalog, lets `change` alter it and writes it back; no other process gets in between.
    pub(crate) fn update(state: &StateDir, change: impl FnOnce(&mut Self)) -> Result<Self, CatalogError> {
        let _lock = state.lock_catalog()?;
        let mut catalog = Self::load(state)?;
        change(&mut catalog);
        let content = serde_json::to_vec_pretty(&catalog).map_err(|source| CatalogError::Damaged {
            path: state.catalog(),
            source,
        })?;
        replace_file(state, &state.catalog(), &content)?;
        Ok(catalog)
    }

    /// The digests of all blobs and of all layers that some image needs.
    pub(crate) fn contents(&self) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
        let layers = || self.manifests.values().flat_map(|record| &record.layers);
        let mut blobs: BTreeSet<Digest> = self.manifests.keys().copied().collect();
        blobs.extend(self.manifests.values().map(|record| record.config));
        blobs.extend(layers().map(|layer| layer.blob));
        (blobs, layers().map(|layer| layer.diff_id).collect())
    }

    fn parse(content: &[u8], path: &Path) -> Result<Self, CatalogError> {
        serde_json::from_slice(content).map_err(|source| CatalogError::Damaged {
            path: path.to_owned(),
            source,
        })
    }
}
