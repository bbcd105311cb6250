//! Images from an archive: `docker save` of any age, an OCI image layout in a tar archive, or both in one.
//!
//! The archive is a stream, and what says how its files belong together may stand at its end. So every layer
//! becomes a blob and a file system image when it passes, documents are kept, and images are put together
//! when the archive has ended. What no image of the archive needs is dropped then.

mod documents;
mod files;

use crate::blob::BlobId;
use crate::compression::decompress;
use crate::digest::Digest;
use crate::image::Image;
use crate::ingest::{Ingest, StoredLayer};
use crate::manifest::{ManifestError, parse, platform_of};
use crate::reference::Reference;
use crate::store::{ImageStore, Result, StoreError};
use documents::{DockerImage, ImageManifests, OciImage};
use files::{ArchiveFiles, read_files};
use oci_spec::image::Platform;
use std::io::{self, Read};

pub(crate) use files::MAX_DOCUMENTS;

/// Why an archive was refused. Images that were complete before the fault are loaded; nothing else is left.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read or decompressed.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// It is no tar archive.
    #[error("cannot read the archive: {0}")]
    Archive(#[from] tar_stream::ArchiveError),
    /// It is a tar archive without images.
    #[error("the archive holds no images: neither manifest.json nor index.json is in it")]
    NoImages,
    /// It has the form of Docker before 1.10.
    #[error(
        "the archive has the form of Docker before 1.10 (no manifest.json); save the images with a newer version"
    )]
    TooOld,
    /// A file that another one names is not in it.
    #[error("the archive is incomplete: {needed_by} needs {file}, which is missing")]
    Missing {
        /// The file.
        file: String,
        /// What names it.
        needed_by: String,
    },
    /// A file has not the content that its name says.
    #[error("{file} of the archive is damaged: its content has the digest {actual}")]
    Digest {
        /// The file.
        file: String,
        /// The digest of its content.
        actual: Digest,
    },
    /// A document is malformed.
    #[error(transparent)]
    Document(#[from] ManifestError),
    /// Its documents are too large to be kept.
    #[error("the documents in the archive are larger than {MAX_DOCUMENTS} bytes together")]
    TooManyDocuments,
    /// Symbolic links in it lead nowhere.
    #[error("{file} of the archive is a link that leads nowhere")]
    Link {
        /// The link.
        file: String,
    },
    /// Indices are nested too deeply.
    #[error("the indices in the archive are nested too deeply")]
    Nesting,
}

/// Says which platforms are wanted.
pub type WantedPlatform<'a> = dyn Fn(&Platform) -> bool + 'a;

/// How far a layer of an archive is; one that is in the store already is not told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress<'a> {
    /// The digits of the digest in its path, or the path itself, in which an archive may have put anything.
    pub layer: &'a str,
    /// What was read of it, in bytes.
    pub read: u64,
    /// Its length in the archive, in bytes.
    pub size: u64,
    /// Whether it is in the store now.
    pub stored: bool,
}

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The full names that the archive gave it. May be empty.
    pub references: Vec<String>,
}

impl ImageStore {
    /// Reads an archive of either kind, compressed or not, from a stream, and adds all its images.
    pub fn load(&self, input: impl Read) -> Result<Vec<Loaded>> {
        self.load_with(input, None, &mut |_| {})
    }

    /// Like [`ImageStore::load`], but only the images for platforms that are `wanted`, which may be none, and telling
    /// how far each layer is.
    pub fn load_with(
        &self,
        input: impl Read,
        wanted: Option<&WantedPlatform<'_>>,
        tell: &mut dyn FnMut(LayerProgress<'_>),
    ) -> Result<Vec<Loaded>> {
        let ingest = self.ingest()?;
        let (_, mut input) = decompress(input, &self.shared.limits).map_err(LoadError::Read)?;
        let files = read_files(&ingest, &mut input, &self.shared.limits, tell)?;
        // Whoever writes to us is not to be cut off behind the end mark.
        io::copy(&mut input, &mut io::sink()).map_err(LoadError::Read)?;
        let manifests = ImageManifests::of(&files, wanted)?;
        let mut loaded = Vec::new();
        for image in &manifests.docker {
            if is_wanted(files.document(&image.config, "manifest.json")?, wanted)? {
                loaded.push(load_docker(&ingest, &files, image)?);
            }
        }
        for image in &manifests.oci {
            let needed_by = format!("manifest {}", image.manifest);
            if is_wanted(files.blob(&image.contents.config.digest, &needed_by)?, wanted)? {
                loaded.push(load_oci(&ingest, &files, image)?);
            }
        }
        Ok(loaded)
    }
}

/// Whether the image with this configuration is for a platform that is wanted.
fn is_wanted(config: &[u8], wanted: Option<&WantedPlatform<'_>>) -> Result<bool, LoadError> {
    let Some(wanted) = wanted else { return Ok(true) };
    Ok(wanted(&platform_of(&parse(config, "an image's configuration")?)))
}

/// An image that `manifest.json` alone describes: its manifest is made here.
fn load_docker(ingest: &Ingest, files: &ArchiveFiles, image: &DockerImage) -> Result<Loaded> {
    let config = files.document(&image.config, "manifest.json")?;
    let layers = image.layers.iter().map(|path| files.layer(path, "manifest.json"));
    let layers: Vec<StoredLayer> = layers.collect::<Result<_, LoadError>>()?;
    ingest.put_generated(config, &layers)?;
    let names = full_names(&image.names)?;
    Ok(Loaded {
        image: ingest.commit(&names)?,
        references: names.iter().map(Reference::storage_name).collect(),
    })
}

/// An image with a manifest of its own, which is kept.
fn load_oci(ingest: &Ingest, files: &ArchiveFiles, image: &OciImage) -> Result<Loaded> {
    let needed_by = format!("manifest {}", image.manifest);
    for (BlobId { digest, .. }, _) in &image.contents.layers {
        files.layer(&documents::blob_path(digest), &needed_by)?;
    }
    let config = image.contents.config.digest;
    ingest.put_manifest(&image.media_type, files.blob(&image.manifest, "index.json")?)?;
    ingest.put_document(config, files.blob(&config, &needed_by)?)?;
    let names = full_names(&image.names)?;
    Ok(Loaded {
        image: ingest.commit(&names)?,
        references: names.iter().map(Reference::storage_name).collect(),
    })
}

/// Names in an archive mean what they mean to Docker: without a registry, its own.
fn full_names(names: &[String]) -> Result<Vec<Reference>> {
    let mut references: Vec<Reference> = Vec::new();
    for name in names {
        let reference: Reference = name.parse().map_err(StoreError::Reference)?;
        let reference = reference.in_registry();
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    Ok(references)
}
