//! Reading an OCI image layout directory (OCI image specification, image-layout.md) that somebody else
//! wrote. Every file is opened beneath the directory's descriptor, so that no symbolic link leads out of it.

use crate::blob::{BlobError, BlobId, VerifyingReader};
use crate::digest::{Digest, DigestError};
use crate::manifest::{DocumentKind, MAX_JSON, ManifestError, blob_id, parse};
use crate::reference::Reference;
use oci_spec::image::{ANNOTATION_REF_NAME, Arch, Descriptor, ImageIndex, Os};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Indices within indices.
const MAX_NESTING: usize = 4;
/// What `docker save` and containerd call the full name in.
pub(crate) const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Why a directory cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It cannot be opened.
    #[error("cannot open the OCI layout {}: {source}", .path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of it is missing.
    #[error("the OCI layout {} is incomplete: {file} is missing", .layout.display())]
    Missing {
        /// The directory.
        layout: PathBuf,
        /// The file, relative to it.
        file: String,
    },
    /// A file of it is no regular file, or a link that leads out of it.
    #[error("the OCI layout {} is refused: {file} is not a regular file inside it", .layout.display())]
    NotAFile {
        /// The directory.
        layout: PathBuf,
        /// The file, relative to it.
        file: String,
    },
    /// A file of it cannot be read.
    #[error("cannot read {file} of the OCI layout {}: {source}", .layout.display())]
    Read {
        /// The directory.
        layout: PathBuf,
        /// The file, relative to it.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its version is unknown.
    #[error("the OCI layout {} has version `{}`; 1.0.0 is supported", .layout.display(), .version.escape_debug())]
    Version {
        /// The directory.
        layout: PathBuf,
        /// Its version.
        version: String,
    },
    /// An index, manifest or configuration cannot be used.
    #[error(transparent)]
    Document(#[from] ManifestError),
    /// A descriptor has a digest that cannot be checked.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A blob is not what its descriptor says.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// No image in it runs here.
    #[error("no image for linux/amd64 in the OCI layout; it has: {available}")]
    NoPlatform {
        /// The platforms it has.
        available: String,
    },
    /// It holds several images and none has the name that was asked for.
    #[error("the OCI layout holds several images and none is named `{reference}`; it has: {available}")]
    Ambiguous {
        /// The name that was asked for.
        reference: String,
        /// The names it has.
        available: String,
    },
    /// Indices are nested too deeply.
    #[error("more than {MAX_NESTING} indices are nested in each other")]
    Nesting,
}

/// An opened layout directory.
pub(crate) struct OciLayout {
    directory: OwnedFd,
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

impl OciLayout {
    /// Opens the directory and checks that it is a layout.
    pub(crate) fn open(path: &Path) -> Result<Self, LayoutError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).map_err(|error| LayoutError::Open {
            path: path.to_owned(),
            source: error.into(),
        })?;
        let layout = Self {
            directory,
            path: path.to_owned(),
        };
        let LayoutVersion {
            image_layout_version: version,
        } = layout.read_json_file("oci-layout")?;
        match version.starts_with("1.") {
            true => Ok(layout),
            false => Err(LayoutError::Version {
                layout: layout.path,
                version,
            }),
        }
    }

    /// The manifest of the image that `reference` names, or of the only one there is, for linux/amd64, with
    /// its media type.
    pub(crate) fn find_manifest(&self, reference: &Reference) -> Result<(BlobId, String), LayoutError> {
        let index: ImageIndex = self.read_json_file("index.json")?;
        let all: Vec<&Descriptor> = index.manifests().iter().collect();
        let named: Vec<&Descriptor> = all.iter().copied().filter(|it| is_named(it, reference)).collect();
        let wanted = if named.is_empty() { &all } else { &named };
        let runnable: Vec<&Descriptor> = wanted.iter().copied().filter(|it| runs_here(it)).collect();
        let Some(first) = runnable.first() else {
            return Err(no_platform(&all));
        };
        if runnable.iter().any(|other| other.digest() != first.digest()) {
            let available = all
                .iter()
                .filter_map(|it| name_of(it))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(LayoutError::Ambiguous {
                reference: reference.to_string(),
                available,
            });
        }
        self.descend(first)
    }

    /// From an index to the first of its images that runs here, as image-index.md wants it.
    fn descend(&self, start: &Descriptor) -> Result<(BlobId, String), LayoutError> {
        let mut descriptor = start.clone();
        for _ in 0..=MAX_NESTING {
            let id = blob_id(&descriptor)?;
            let media_type = descriptor.media_type().to_string();
            match DocumentKind::of(&media_type) {
                Some(DocumentKind::Manifest) => return Ok((id, media_type)),
                Some(DocumentKind::Index) => {}
                None => {
                    let digest = id.digest;
                    return Err(ManifestError::MediaType { digest, media_type }.into());
                }
            }
            let index: ImageIndex =
                parse(&self.read_document(id, "index")?, &format!("index {}", id.digest))?;
            let runnable = index.manifests().iter().find(|it| runs_here(it)).cloned();
            descriptor =
                runnable.ok_or_else(|| no_platform(&index.manifests().iter().collect::<Vec<_>>()))?;
        }
        Err(LayoutError::Nesting)
    }

    /// The verified bytes of a small blob; `what` it is, for messages.
    pub(crate) fn read_document(&self, id: BlobId, what: &str) -> Result<Vec<u8>, LayoutError> {
        if id.size > MAX_JSON {
            return Err(ManifestError::TooLarge {
                what: format!("{what} {}", id.digest),
                size: id.size,
            }
            .into());
        }
        let file = self.open_blob(id.digest)?;
        Ok(VerifyingReader::new(file, Vec::new(), id).finish()?.0)
    }

    /// A blob, not verified.
    pub(crate) fn open_blob(&self, digest: Digest) -> Result<File, LayoutError> {
        self.open_file(&format!("blobs/sha256/{}", digest.hex()))
    }

    fn read_json_file<T: DeserializeOwned>(&self, name: &str) -> Result<T, LayoutError> {
        let mut content = Vec::new();
        let read = self.open_file(name)?.take(MAX_JSON + 1).read_to_end(&mut content);
        let file = || name.to_owned();
        read.map_err(|source| LayoutError::Read {
            layout: self.path.clone(),
            file: file(),
            source,
        })?;
        if content.len() as u64 > MAX_JSON {
            return Err(ManifestError::TooLarge {
                what: file(),
                size: content.len() as u64,
            }
            .into());
        }
        let what = format!("{name} of the OCI layout {}", self.path.display());
        Ok(parse(&content, &what)?)
    }

    /// Opens without waiting for the other end of a pipe, and accepts only a regular file.
    fn open_file(&self, name: &str) -> Result<File, LayoutError> {
        let (layout, file) = (|| self.path.clone(), || name.to_owned());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = match openat2(&self.directory, name, flags, Mode::empty(), resolve) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => {
                return Err(LayoutError::Missing {
                    layout: layout(),
                    file: file(),
                });
            }
            Err(Errno::XDEV | Errno::LOOP | Errno::NXIO) => {
                return Err(LayoutError::NotAFile {
                    layout: layout(),
                    file: file(),
                });
            }
            Err(error) => {
                return Err(LayoutError::Read {
                    layout: layout(),
                    file: file(),
                    source: error.into(),
                });
            }
        };
        match opened.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(opened),
            Ok(_) => Err(LayoutError::NotAFile {
                layout: layout(),
                file: file(),
            }),
            Err(source) => Err(LayoutError::Read {
                layout: layout(),
                file: file(),
                source,
            }),
        }
    }
}

/// A descriptor without a platform may be for any; its image's configuration will tell.
pub(crate) fn runs_here(descriptor: &Descriptor) -> bool {
    let platform = descriptor.platform().as_ref();
    platform.is_none_or(|it| *it.os() == Os::Linux && *it.architecture() == Arch::Amd64)
}

fn no_platform(descriptors: &[&Descriptor]) -> LayoutError {
    let platform = |it: &&Descriptor| match it.platform() {
        Some(platform) => format!("{}/{}", platform.os(), platform.architecture()),
        None => "no platform".to_owned(),
    };
    let available: Vec<String> = descriptors.iter().map(platform).collect();
    let available = if available.is_empty() {
        "nothing".to_owned()
    } else {
        available.join(", ")
    };
    LayoutError::NoPlatform { available }
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations().as_ref()?;
    let name = annotations
        .get(ANNOTATION_CONTAINERD_NAME)
        .or_else(|| annotations.get(ANNOTATION_REF_NAME));
    name.map(String::as_str)
}

/// Names are full (`docker.io/library/busybox:latest`), short (`busybox:1`) or a tag alone (`latest`).
fn is_named(descriptor: &Descriptor, reference: &Reference) -> bool {
    let annotations = descriptor.annotations().as_ref();
    let names = [ANNOTATION_REF_NAME, ANNOTATION_CONTAINERD_NAME];
    let mut names = names.iter().filter_map(|key| annotations?.get(*key));
    names.any(|name| {
        let full = |repository: String| format!("{repository}:{}", reference.tag()) == *name;
        name == reference.tag()
            || *name == reference.to_string()
            || reference.repositories().into_iter().any(full)
    })
}
