//! What the documents of an archive say: which images it holds.

use super::files::ArchiveFiles;
use super::{LoadError, WantedPlatform};
use crate::digest::Digest;
use crate::layout::{ANNOTATION_CONTAINERD_NAME, runs_here};
use crate::manifest::{DocumentKind, ManifestContents, ManifestError, blob_id, parse};
use crate::reference::Reference;
use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndex};
use serde::Deserialize;

/// Indices within indices.
const MAX_NESTING: usize = 4;

/// An image that `manifest.json` describes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    /// The path of its configuration.
    pub(super) config: String,
    #[serde(default, rename = "RepoTags", deserialize_with = "nothing_for_null")]
    pub(super) names: Vec<String>,
    /// The paths of its layers, bottom first.
    #[serde(default, deserialize_with = "nothing_for_null")]
    pub(super) layers: Vec<String>,
}

/// An image that `index.json` leads to.
#[derive(Debug)]
pub(super) struct OciImage {
    pub(super) manifest: Digest,
    pub(super) media_type: String,
    pub(super) contents: ManifestContents,
    pub(super) names: Vec<String>,
}

/// All images of an archive, each in one of the two lists.
#[derive(Debug)]
pub(super) struct ImageManifests {
    /// Those that only `manifest.json` has.
    pub(super) docker: Vec<DockerImage>,
    pub(super) oci: Vec<OciImage>,
}

impl ImageManifests {
    pub(super) fn of(files: &ArchiveFiles, wanted: Option<&WantedPlatform<'_>>) -> Result<Self, LoadError> {
        let docker = files.find_document("manifest.json");
        let index = files.find_document("index.json");
        if docker.is_none() && index.is_none() {
            return Err(match files.find_document("repositories") {
                Some(_) => LoadError::TooOld,
                None => LoadError::NoImages,
            });
        }
        let mut oci = match index {
            Some(index) => read_index(files, &parse(index, "index.json")?, wanted)?,
            None => Vec::new(),
        };
        let mut images: Vec<DockerImage> = match docker {
            Some(docker) => parse(docker, "manifest.json")?,
            None => Vec::new(),
        };
        // An image that both tell of is loaded with its own manifest, under the names of both.
        images.retain(|image| {
            let is_same = |other: &&mut OciImage| {
                files
                    .document(&image.config, "manifest.json")
                    .is_ok_and(|config| Digest::of(config) == other.contents.config.digest)
            };
            match oci.iter_mut().find(is_same) {
                Some(same) => {
                    same.names.extend(image.names.iter().cloned());
                    false
                }
                None => true,
            }
        });
        if images.is_empty() && oci.is_empty() {
            return Err(LoadError::NoImages);
        }
        Ok(Self { docker: images, oci })
    }
}

/// The images that `index.json` leads to, each manifest once.
fn read_index(
    files: &ArchiveFiles,
    index: &ImageIndex,
    wanted: Option<&WantedPlatform<'_>>,
) -> Result<Vec<OciImage>, LoadError> {
    let mut images: Vec<OciImage> = Vec::new();
    for descriptor in index.manifests() {
        let Some((manifest, media_type)) = descend(files, descriptor, wanted, 0)? else {
            continue;
        };
        let name = name_of(descriptor);
        if let Some(known) = images.iter_mut().find(|image| image.manifest == manifest) {
            known.names.extend(name);
            continue;
        }
        let contents = ManifestContents::parse(files.blob(&manifest, "index.json")?, &manifest)?;
        images.push(OciImage {
            manifest,
            media_type,
            contents,
            names: name.into_iter().collect(),
        });
    }
    Ok(images)
}

/// The manifest that a descriptor leads to: of an index the one that is wanted, or runs here if none is, or else the
/// first that the archive has. `None` for what is no image, such as an attestation.
fn descend(
    files: &ArchiveFiles,
    descriptor: &Descriptor,
    wanted: Option<&WantedPlatform<'_>>,
    depth: usize,
) -> Result<Option<(Digest, String)>, LoadError> {
    let id = blob_id(descriptor).map_err(ManifestError::from)?;
    let media_type = descriptor.media_type().to_string();
    match DocumentKind::of(&media_type) {
        Some(DocumentKind::Manifest) => Ok(Some((id.digest, media_type))),
        None => Ok(None),
        Some(DocumentKind::Index) if depth >= MAX_NESTING => Err(LoadError::Nesting),
        Some(DocumentKind::Index) => {
            let what = format!("index {}", id.digest);
            let index: ImageIndex = parse(files.blob(&id.digest, "index.json")?, &what)?;
            let is_image = |it: &&Descriptor| {
                let platform = it.platform().as_ref();
                platform.is_none_or(|platform| platform.os().to_string() != "unknown")
            };
            let is_here = |it: &&Descriptor| {
                blob_id(it).is_ok_and(|id| files.find_document(&blob_path(&id.digest)).is_some())
            };
            let images: Vec<&Descriptor> = index
                .manifests()
                .iter()
                .filter(is_image)
                .filter(is_here)
                .collect();
            let is_best = |it: &&&Descriptor| match wanted {
                Some(wanted) => it.platform().as_ref().is_some_and(wanted),
                None => runs_here(it),
            };
            let chosen = images.iter().find(is_best).or(images.first());
            match chosen {
                Some(chosen) => descend(files, chosen, wanted, depth + 1),
                None => Err(LoadError::Missing {
                    file: "every manifest".to_owned(),
                    needed_by: what,
                }),
            }
        }
    }
}

/// The name that a descriptor gives its image: Docker and containerd have the full one in an annotation of their
/// own, others put it where a tag alone may stand.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    if let Some(name) = annotations.get(ANNOTATION_CONTAINERD_NAME) {
        return Some(name.clone());
    }
    let name = annotations.get(ANNOTATION_REF_NAME)?;
    let is_full = name.contains(['/', ':']) && name.parse::<Reference>().is_ok();
    is_full.then(|| name.clone())
}

/// Where an OCI layout has a blob.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest that a path of an OCI layout promises.
pub(super) fn digest_in_path(path: &str) -> Option<Digest> {
    let digits = path.strip_prefix("blobs/sha256/")?;
    format!("sha256:{digits}").parse().ok()
}

/// Go writes an empty list as `null`.
fn nothing_for_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
