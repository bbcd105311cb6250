//! The store as others use it.

use crate::catalog::{Catalog, CatalogError, ManifestRecord};
use crate::digest::Digest;
use crate::image::{Image, Layer};
use crate::import::{ImportError, Limits, stage_image};
use crate::ingest::Ingest;
use crate::layout::{OciLayout, parse};
use crate::reference::{Reference, ReferenceError};
use crate::state::{Staging, StateDir, StateError, SweepError};
use oci_spec::image::ImageConfiguration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    /// An import failed; nothing of it is left.
    #[error("cannot import {} as {reference}: {source}", .layout.display())]
    Import {
        /// The layout directory.
        layout: PathBuf,
        /// The name it was to get.
        reference: String,
        /// What is wrong.
        source: Box<ImportError>,
    },
    /// An image in the store is damaged.
    #[error("image {id} is damaged: {what}; import it again")]
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

impl From<SweepError> for StoreError {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::State(error) => Self::State(error),
            SweepError::Catalog(error) => Self::Catalog(error),
        }
    }
}

/// The images in one directory. Any number of processes may have it open, and any number of threads may
/// call its methods; all of them block on the disk.
#[derive(Debug)]
pub struct ImageStore {
    state: StateDir,
    limits: Limits,
}

impl ImageStore {
    /// Opens the store in `root`, makes it if there is none (mode 0700), and removes what an interrupted
    /// import may have left.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Limits::default())
    }

    /// Like [`ImageStore::open`], with other limits for imports.
    pub fn open_with(root: &Path, limits: Limits) -> Result<Self> {
        let state = StateDir::open(root)?;
        state.sweep(|| Ok(Catalog::load(&state)?.contents()))?;
        Ok(Self { state, limits })
    }

    /// Begins to take in an image.
    pub fn ingest(&self) -> Result<Ingest> {
        todo!()
    }

    /// Imports an image from an OCI layout directory under the name `reference` (`localhost/` in front if
    /// it has no registry, `:latest` behind if it has no tag). If the layout holds several, the one that
    /// has this name in `index.json`. When the name leads to the same manifest already, nothing is read
    /// but the indices.
    pub fn import_oci_layout(&self, dir: &Path, reference: &str) -> Result<Image> {
        let reference: Reference = reference.parse()?;
        if reference.digest().is_some() {
            return Err(StoreError::ReferenceWithDigest(reference));
        }
        let failed = |source: ImportError| StoreError::Import {
            layout: dir.to_owned(),
            reference: reference.to_string(),
            source: Box::new(source),
        };
        let layout = OciLayout::open(dir).map_err(|error| failed(error.into()))?;
        let manifest = layout
            .find_manifest(&reference)
            .map_err(|error| failed(error.into()))?;
        let name = reference.storage_name();
        let catalog = Catalog::load(&self.state)?;
        if let Some(record) = catalog.manifests.get(&manifest.digest)
            && catalog.references.get(&name) == Some(&manifest.digest)
            && self.is_complete(record)
        {
            return self.image(&catalog, &manifest.digest);
        }
        let mut staging = Staging::new(&self.state)?;
        let staged = stage_image(&self.state, &mut staging, &layout, manifest, &self.limits);
        let record = staged.map_err(failed)?;
        let _lock = staging.publish()?;
        let catalog = Catalog::update(&self.state, |catalog| {
            catalog.manifests.insert(manifest.digest, record);
            catalog.references.insert(name, manifest.digest);
        })?;
        self.image(&catalog, &manifest.digest)
    }

    /// The image that `name` means: `NAME[:TAG][@DIGEST]` ([`Reference::repositories`] says where a short
    /// name is looked for), or an identifier or the beginning of one.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        let catalog = Catalog::load(&self.state)?;
        if let Ok(id) = name.parse::<Digest>() {
            return self.by_id(&catalog, &id.hex(), name);
        }
        let reference = name.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(manifest) = by_reference(&catalog, reference)
        {
            return self.image(&catalog, &manifest);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let is_id = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match (is_id, reference) {
            (true, Ok(reference)) => self.by_id(&catalog, digits, &reference.to_string()),
            (true, Err(_)) => self.by_id(&catalog, digits, name),
            (false, Ok(reference)) => Err(StoreError::NotFound {
                name: reference.to_string(),
            }),
            (false, Err(error)) => Err(error.into()),
        }
    }

    /// All images, each once, in the order of their identifiers.
    pub fn list(&self) -> Result<Vec<Image>> {
        let catalog = Catalog::load(&self.state)?;
        let named: BTreeSet<&Digest> = catalog.references.values().collect();
        let mut images: BTreeMap<Digest, Digest> = BTreeMap::new();
        for (manifest, record) in &catalog.manifests {
            let shown = images.entry(record.config).or_insert(*manifest);
            if named.contains(manifest) {
                *shown = *manifest;
            }
        }
        images
            .values()
            .map(|manifest| self.image(&catalog, manifest))
            .collect()
    }

    fn by_id(&self, catalog: &Catalog, digits: &str, name: &str) -> Result<Image> {
        let mut found: BTreeMap<Digest, Digest> = BTreeMap::new();
        for (manifest, record) in &catalog.manifests {
            if record.config.hex().starts_with(digits) {
                found.entry(record.config).or_insert(*manifest);
            }
        }
        match (found.len(), found.pop_first()) {
            (1, Some((_, manifest))) => self.image(catalog, &manifest),
            (0, _) => Err(StoreError::NotFound {
                name: name.to_owned(),
            }),
            (count, _) => Err(StoreError::AmbiguousId {
                prefix: digits.to_owned(),
                count,
            }),
        }
    }

    /// The image with this manifest, which is in the catalog.
    fn image(&self, catalog: &Catalog, manifest: &Digest) -> Result<Image> {
        let not_found = || StoreError::NotFound {
            name: manifest.to_string(),
        };
        let record = catalog.manifests.get(manifest).ok_or_else(not_found)?;
        let config = self.configuration(&record.config)?;
        let leads_here = |named: &Digest| {
            catalog
                .manifests
                .get(named)
                .is_some_and(|other| other.config == record.config)
        };
        let references = catalog.references.iter().filter(|(_, named)| leads_here(named));
        let layers: Vec<Layer> = record
            .layers
            .iter()
            .map(|layer| Layer {
                diff_id: layer.diff_id.to_string(),
                path: self.state.layer(&layer.diff_id),
                size: layer.size,
            })
            .collect();
        Ok(Image {
            id: record.config.to_string(),
            manifest_digest: manifest.to_string(),
            references: references.map(|(name, _)| name.clone()).collect(),
            digests: Vec::new(),
            size: layers.iter().map(|layer| layer.size).sum(),
            created: config.created().clone(),
            config,
            layers,
        })
    }

    fn configuration(&self, id: &Digest) -> Result<ImageConfiguration> {
        let damaged = |what: String| StoreError::Damaged { id: *id, what };
        let path = self.state.blob(id);
        let content = fs::read(&path).map_err(|error| damaged(format!("{}: {error}", path.display())))?;
        if Digest::of(&content) != *id {
            return Err(damaged(format!("{} has another digest", path.display())));
        }
        parse(&content, "its configuration").map_err(|error| damaged(error.to_string()))
    }

    /// Whether every file of an image is there, at its full length.
    fn is_complete(&self, record: &ManifestRecord) -> bool {
        let has_layer = |diff_id: &Digest, size| {
            fs::metadata(self.state.layer(diff_id)).is_ok_and(|metadata| metadata.len() == size)
        };
        self.configuration(&record.config).is_ok()
            && record
                .layers
                .iter()
                .all(|layer| has_layer(&layer.diff_id, layer.size))
    }
}

/// The manifest that a name leads to. With a digest the tag says nothing, as in Docker.
fn by_reference(catalog: &Catalog, reference: &Reference) -> Option<Digest> {
    let repositories = reference.repositories();
    match reference.digest() {
        None => repositories.iter().find_map(|repository| {
            catalog
                .references
                .get(&format!("{repository}:{}", reference.tag()))
                .copied()
        }),
        Some(digest) => {
            let is_of = |name: &str| {
                name.rsplit_once(':')
                    .is_some_and(|(of, _)| repositories.iter().any(|repository| repository == of))
            };
            let mut named = catalog.references.iter().filter(|(name, _)| is_of(name));
            named
                .find(|(_, manifest)| *manifest == digest)
                .map(|(_, manifest)| *manifest)
        }
    }
}
