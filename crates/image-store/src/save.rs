//! Images to one archive: an OCI image layout and a docker-archive in one, as Docker 25 and later write it.

use crate::digest::Digest;
use crate::holds::Hold;
use crate::image::{BlobDescriptor, Image};
use crate::layout::ANNOTATION_CONTAINERD_NAME;
use crate::manifest::OCI_INDEX;
use crate::reading::{RawManifest, digests_of};
use crate::reference::Reference;
use crate::store::{ImageStore, Result, Shared};
use oci_spec::image::ANNOTATION_REF_NAME;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read, Write};
use tar::{Builder, EntryType, Header};

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Whoever reads it is gone, or its disk is full.
    #[error("cannot write the archive: {0}")]
    Output(#[source] io::Error),
    /// A blob could not be read.
    #[error("cannot read blob {digest} into the archive: {source}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        source: io::Error,
    },
}

/// What the file `oci-layout` says (image-layout.md).
const LAYOUT_VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image to save, with the names that it is saved under.
struct Saved {
    image: Image,
    manifest: RawManifest,
    blobs: Vec<BlobDescriptor>,
    names: Vec<String>,
}

impl ImageStore {
    /// Writes the images with these names or identifiers as one archive that is an OCI layout and a
    /// docker-archive in one, as Docker 25 and later do. An image that is named by a tag keeps that tag; an
    /// identifier gives an image without a name; a repository without a tag gives all its tags. Layers are
    /// written as they came, so that no digest changes.
    pub fn save(&self, names: &[&str], output: impl Write) -> Result<()> {
        let mut hold = Hold::nothing(&self.shared);
        let mut images: BTreeMap<Digest, Saved> = BTreeMap::new();
        for name in names {
            for (manifest, name) in self.shared.names_to_save(name)? {
                let saved = match images.entry(manifest) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(self.examine(&manifest, &mut hold)?),
                };
                if let Some(name) = name.filter(|name| !saved.names.contains(name)) {
                    saved.names.push(name);
                }
            }
        }
        let images: Vec<Saved> = images.into_values().collect();
        Ok(write_archive(self, &images, output)?)
    }

    /// Writes one manifest, its documents and its layers as the archive of an OCI layout. The index is its last file: where it is,
    /// everything is.
    pub fn save_layout(
        &self,
        manifest: &RawManifest,
        documents: &[&[u8]],
        layers: &[BlobDescriptor],
        output: impl Write,
    ) -> Result<()> {
        Ok(write_layout(self, manifest, documents, layers, output)?)
    }

    fn examine(&self, manifest: &Digest, hold: &mut Hold) -> Result<Saved> {
        let image = self.shared.image(manifest)?;
        let (id, manifest) = digests_of(&image)?;
        hold.add_blob(manifest);
        hold.add_blob(id);
        for blob in self.image_blobs(&image)? {
            hold.add_blob(blob.digest);
        }
        // Held now: what is there stays.
        Ok(Saved {
            manifest: self.manifest(&image)?,
            blobs: self.image_blobs(&image)?,
            names: Vec::new(),
            image,
        })
    }
}

impl Shared {
    /// The manifests that an argument of `save` means, with the full names to give them.
    fn names_to_save(&self, name: &str) -> Result<Vec<(Digest, Option<String>)>> {
        if let Ok(reference) = name.parse::<Reference>()
            && !reference.has_tag()
            && reference.digest().is_none()
        {
            for repository in reference.repositories() {
                let mut names = self.catalog.names_in(&repository)?;
                names.retain(|(name, _)| !name.contains('@'));
                if !names.is_empty() {
                    return Ok(names
                        .into_iter()
                        .map(|(name, manifest)| (manifest, Some(name)))
                        .collect());
                }
            }
        }
        let found = self.find(name)?;
        Ok(vec![(
            found.manifest,
            found.name.filter(|name| !name.contains('@')),
        )])
    }
}

fn write_layout(
    store: &ImageStore,
    manifest: &RawManifest,
    documents: &[&[u8]],
    layers: &[BlobDescriptor],
    output: impl Write,
) -> Result<(), SaveError> {
    let mut archive = begin_layout(output)?;
    for document in documents.iter().chain([&manifest.bytes.as_slice()]) {
        append_bytes(&mut archive, &blob_path(&Digest::of(document)), document)?;
    }
    for layer in layers {
        append_blob(&mut archive, store, layer)?;
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
        }],
    });
    append_bytes(&mut archive, "oci-layout", LAYOUT_VERSION)?;
    append_bytes(&mut archive, "index.json", index.to_string().as_bytes())?;
    finish(archive)
}

/// An archive with the folders of a layout.
fn begin_layout<W: Write>(output: W) -> Result<Builder<W>, SaveError> {
    let mut archive = Builder::new(output);
    for directory in ["blobs/", "blobs/sha256/"] {
        append(&mut archive, EntryType::Directory, directory, 0, io::empty())?;
    }
    Ok(archive)
}

fn finish(archive: Builder<impl Write>) -> Result<(), SaveError> {
    archive
        .into_inner()
        .and_then(|mut output| output.flush())
        .map_err(SaveError::Output)
}

fn write_archive(store: &ImageStore, images: &[Saved], output: impl Write) -> Result<(), SaveError> {
    let mut archive = begin_layout(output)?;
    let mut written: Vec<Digest> = Vec::new();
    for saved in images {
        let manifest = &saved.manifest;
        if !written.contains(&manifest.digest) {
            append_bytes(&mut archive, &blob_path(&manifest.digest), &manifest.bytes)?;
            written.push(manifest.digest);
        }
        for blob in &saved.blobs {
            if !written.contains(&blob.digest) {
                append_blob(&mut archive, store, blob)?;
                written.push(blob.digest);
            }
        }
    }
    append_bytes(&mut archive, "index.json", index(images).to_string().as_bytes())?;
    append_bytes(
        &mut archive,
        "manifest.json",
        docker_manifest(images).to_string().as_bytes(),
    )?;
    append_bytes(&mut archive, "oci-layout", LAYOUT_VERSION)?;
    finish(archive)
}

/// `index.json` (image-layout.md): a descriptor for each name, and one for an image without a name.
fn index(images: &[Saved]) -> Value {
    let descriptor = |saved: &Saved, name: Option<&String>| {
        let mut descriptor = json!({
            "mediaType": saved.manifest.media_type,
            "digest": saved.manifest.digest,
            "size": saved.manifest.bytes.len(),
            "platform": {
                "architecture": saved.image.config.architecture(),
                "os": saved.image.config.os(),
            },
        });
        if let Some(name) = name {
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            descriptor["annotations"] = json!({ ANNOTATION_CONTAINERD_NAME: name, ANNOTATION_REF_NAME: tag });
        }
        descriptor
    };
    let descriptors = images.iter().flat_map(|saved| {
        let unnamed = saved.names.is_empty().then(|| descriptor(saved, None));
        let named = saved.names.iter().map(|name| descriptor(saved, Some(name)));
        unnamed.into_iter().chain(named).collect::<Vec<_>>()
    });
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": descriptors.collect::<Vec<_>>(),
    })
}

/// `manifest.json`, Docker's own list, which its older versions and most tools read.
fn docker_manifest(images: &[Saved]) -> Value {
    let entry = |saved: &Saved| {
        let layers = layers_in_order(saved);
        let sources: Map<String, Value> = saved
            .image
            .layers
            .iter()
            .zip(&layers)
            .map(|(layer, blob)| {
                let descriptor =
                    json!({ "mediaType": blob.media_type, "size": blob.size, "digest": blob.digest });
                (layer.diff_id.clone(), descriptor)
            })
            .collect();
        json!({
            "Config": config_path(saved),
            "RepoTags": saved.names.iter().map(|name| familiar(name)).collect::<Vec<_>>(),
            "Layers": layers.iter().map(|blob| blob_path(&blob.digest)).collect::<Vec<_>>(),
            "LayerSources": sources,
        })
    };
    Value::Array(images.iter().map(entry).collect())
}

/// The blob of each layer, a repeated one each time. What the manifest says was checked when it came.
fn layers_in_order(saved: &Saved) -> Vec<BlobDescriptor> {
    let manifest = crate::manifest::ManifestContents::parse(&saved.manifest.bytes, &saved.manifest.digest);
    let layers = manifest.map(|contents| contents.layers).unwrap_or_default();
    let descriptor = |(id, media_type): (crate::blob::BlobId, String)| BlobDescriptor {
        media_type,
        digest: id.digest,
        size: id.size,
    };
    layers.into_iter().map(descriptor).collect()
}

fn config_path(saved: &Saved) -> String {
    let digits = saved.image.id.strip_prefix("sha256:").unwrap_or(&saved.image.id);
    format!("blobs/sha256/{digits}")
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name as Docker writes it: without its own registry and the namespace there.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn append_blob(
    archive: &mut Builder<impl Write>,
    store: &ImageStore,
    blob: &BlobDescriptor,
) -> Result<(), SaveError> {
    let failed = |source| SaveError::Blob {
        digest: blob.digest,
        source,
    };
    let file = store
        .open_blob(&blob.digest)
        .map_err(|error| failed(io::Error::other(error)))?;
    let length = file.metadata().map_err(failed)?.len();
    if length != blob.size {
        return Err(failed(io::Error::other(format!(
            "it has {length} bytes, {} are expected; `system check` takes it out",
            blob.size
        ))));
    }
    append(
        archive,
        EntryType::Regular,
        &blob_path(&blob.digest),
        blob.size,
        file,
    )
}

fn append_bytes(archive: &mut Builder<impl Write>, path: &str, bytes: &[u8]) -> Result<(), SaveError> {
    append(archive, EntryType::Regular, path, bytes.len() as u64, bytes)
}

fn append(
    archive: &mut Builder<impl Write>,
    kind: EntryType,
    path: &str,
    size: u64,
    content: impl Read,
) -> Result<(), SaveError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory {
        0o755
    } else {
        0o644
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    archive
        .append_data(&mut header, path, content)
        .map_err(SaveError::Output)
}
