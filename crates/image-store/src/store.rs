//! The store as others use it.

use crate::catalog::{BlobRow, Catalog, CatalogError};
use crate::digest::Digest;
use crate::flights::Flights;
use crate::holds::HoldTable;
use crate::image::{DockerConfig, Image, Layer};
use crate::import::ImportError;
use crate::ingest::{Ingest, IngestError};
use crate::limits::Limits;
use crate::load::LoadError;
use crate::manifest::parse;
use crate::reference::{Reference, ReferenceError};
use crate::removal::RemovalConflict;
use crate::save::SaveError;
use crate::state::{StateDir, StateError};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// What the store's methods return.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No image has this name or identifier.
    #[error("No such image: {name}")]
    NotFound {
        /// What was looked for, with the tag that is meant.
        name: String,
    },
    /// An identifier's beginning fits several images.
    #[error("`{prefix}` is the beginning of {count} images' identifiers; give more digits")]
    AmbiguousId {
        /// What was looked for.
        prefix: String,
        /// How many it fits.
        count: usize,
    },
    /// A name does not follow the grammar.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// An image cannot be stored under a digest: that follows from its content.
    #[error("cannot name an image `{0}`: a name for an image has a tag, not a digest")]
    ReferenceWithDigest(Reference),
    /// An image from a layout directory was refused; nothing of it is left.
    #[error(transparent)]
    Import(#[from] Box<ImportError>),
    /// An image that was coming in was refused; nothing of it is left when its ingest is dropped.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// An archive was refused; nothing of it is left but images that were complete.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An archive could not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// Something stands in the way of a removal.
    #[error(transparent)]
    Conflict(#[from] RemovalConflict),
    /// An image in the store is damaged.
    #[error("image {id} is damaged: {what}; pull or load it again")]
    Damaged {
        /// The image.
        id: Digest,
        /// What is wrong with it.
        what: String,
    },
    /// The catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file of the store cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The images in one directory. Cloning is cheap and gives the same store. Any number of threads may call its
/// methods, all of which block on the disk; several processes may have it open, but files are only removed
/// while just one has.
#[derive(Debug, Clone)]
pub struct ImageStore {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones, ingests and holds of one store have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: StateDir,
    pub(crate) catalog: Catalog,
    pub(crate) limits: Limits,
    pub(crate) holds: HoldTable,
    pub(crate) flights: Flights,
}

impl ImageStore {
    /// Opens the store in `root`, makes it if there is none (mode 0700), and removes unfinished files that a
    /// process left which is gone.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Limits::default())
    }

    /// Like [`ImageStore::open`], with other limits for layers.
    pub fn open_with(root: &Path, limits: Limits) -> Result<Self> {
        let state = StateDir::open(root)?;
        let catalog = Catalog::open(&state.catalog())?;
        let shared = Shared {
            state,
            catalog,
            limits,
            holds: HoldTable::default(),
            flights: Flights::new(limits.parallel_layers),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Begins to take in an image.
    pub fn ingest(&self) -> Result<Ingest> {
        Ok(Ingest::new(&self.shared))
    }

    /// The image that `name` means: `NAME[:TAG][@DIGEST]` ([`Reference::repositories`] says where a short
    /// name is looked for), or an identifier or the beginning of one.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        self.shared.image(&self.shared.find(name)?.manifest)
    }
}

/// The same document as an [`ImageConfiguration`](oci_spec::image::ImageConfiguration), with other members read.
#[derive(Deserialize)]
struct Docker {
    config: Option<DockerConfig>,
}

/// What a name was found to mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) manifest: Digest,
    /// The full name that leads there; `None` when it was found by identifier.
    pub(crate) name: Option<String>,
}

impl Shared {
    /// The manifest that `name` means.
    pub(crate) fn find(&self, name: &str) -> Result<Found> {
        if let Ok(id) = name.parse::<Digest>() {
            return self.find_by_id(&id.hex(), name);
        }
        let reference = name.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(found) = self.find_by_reference(reference)?
        {
            return Ok(found);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let is_id = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match (is_id, reference) {
            (true, Ok(reference)) => self.find_by_id(digits, &reference.to_string()),
            (true, Err(_)) => self.find_by_id(digits, name),
            (false, Ok(reference)) => Err(StoreError::NotFound {
                name: reference.to_string(),
            }),
            (false, Err(error)) => Err(error.into()),
        }
    }

    fn find_by_id(&self, digits: &str, name: &str) -> Result<Found> {
        let mut found = self.catalog.by_id(digits)?;
        match (found.len(), found.pop_first()) {
            (1, Some((_, manifest))) => Ok(Found { manifest, name: None }),
            (0, _) => Err(StoreError::NotFound {
                name: name.to_owned(),
            }),
            (count, _) => Err(StoreError::AmbiguousId {
                prefix: digits.to_owned(),
                count,
            }),
        }
    }

    /// The manifest that a name leads to. With a digest the tag says nothing, as in Docker; the digest is one
    /// that the image was pulled or pushed by, or its manifest's.
    fn find_by_reference(&self, reference: &Reference) -> Result<Option<Found>> {
        for repository in reference.repositories() {
            let name = match reference.digest() {
                None => format!("{repository}:{}", reference.tag()),
                Some(digest) => format!("{repository}@{digest}"),
            };
            let mut manifest = self.catalog.by_name(&name)?;
            if let (None, Some(digest)) = (manifest, reference.digest()) {
                manifest = self.catalog.by_manifest_in(&repository, digest)?;
            }
            if let Some(manifest) = manifest {
                return Ok(Some(Found {
                    manifest,
                    name: Some(name),
                }));
            }
        }
        Ok(None)
    }

    /// The image with this manifest, which is in the catalog.
    pub(crate) fn image(&self, manifest: &Digest) -> Result<Image> {
        let not_found = || StoreError::NotFound {
            name: manifest.to_string(),
        };
        let row = self.catalog.image(manifest)?.ok_or_else(not_found)?;
        let content = self.document(&row.config, &row.config)?;
        let damaged = |what: String| StoreError::Damaged { id: row.config, what };
        let config = parse(&content, "its configuration").map_err(|error| damaged(error.to_string()))?;
        let docker: Docker =
            parse(&content, "its configuration").map_err(|error| damaged(error.to_string()))?;
        let mut layers = Vec::new();
        for layer in self.catalog.image_layers(manifest)? {
            if !self.has_layer_file(&layer.diff_id)? {
                return Err(damaged(format!("its layer {} is missing", layer.diff_id)));
            }
            layers.push(Layer {
                diff_id: layer.diff_id.to_string(),
                path: self.state.layer(&layer.diff_id),
                size: layer.files_size,
            });
        }
        let (references, digests) = split_names(self.catalog.names_of(&row.config)?);
        Ok(Image {
            id: row.config.to_string(),
            manifest_digest: manifest.to_string(),
            references,
            digests,
            size: row.size,
            created: row.created,
            config,
            docker: docker.config.unwrap_or_default(),
            layers,
        })
    }

    /// The verified bytes of a manifest or configuration of the image `id`.
    pub(crate) fn document(&self, digest: &Digest, id: &Digest) -> Result<Vec<u8>> {
        let damaged = |what: String| StoreError::Damaged { id: *id, what };
        let path = self.state.blob(digest);
        let content = fs::read(&path).map_err(|error| damaged(format!("{}: {error}", path.display())))?;
        match Digest::of(&content) == *digest {
            true => Ok(content),
            false => Err(damaged(format!("{} has another digest", path.display()))),
        }
    }

    /// A blob that is known to be whole and has its full length.
    pub(crate) fn find_blob(&self, digest: &Digest) -> Result<Option<BlobRow>> {
        let row = self.catalog.blob(digest)?;
        Ok(row.filter(|row| {
            fs::metadata(self.state.blob(digest)).is_ok_and(|metadata| metadata.len() == row.size)
        }))
    }

    /// Whether a layer's file system image is known to be whole and has its full length.
    pub(crate) fn has_layer_file(&self, diff_id: &Digest) -> Result<bool> {
        let row = self.catalog.layer(diff_id)?;
        Ok(row.is_some_and(|row| {
            fs::metadata(self.state.layer(diff_id)).is_ok_and(|metadata| metadata.len() == row.image_size)
        }))
    }
}

/// Names with tags, and names with digests.
pub(crate) fn split_names(names: BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    names.into_iter().partition(|name| !name.contains('@'))
}
