//! From a layout directory to an image in the store.

use crate::archive::Archive;
use crate::blob::{BlobError, BlobId, VerifyingReader};
use crate::catalog::{LayerRecord, ManifestRecord};
use crate::compression::decompress;
use crate::digest::{Digest, DigestError, Hasher};
use crate::layer::{LayerError, convert};
use crate::layout::{LayoutError, OciLayout, blob_id, parse};
use crate::state::{Staging, StateDir, StateError};
use erofs::{Options, Timestamp, Writer};
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageManifest, Os};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// Layers of one image: as many as Docker allows.
const MAX_LAYERS: usize = 127;
const LAYER_TYPES: [&str; 2] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
];

/// What one layer may grow to. A layer that exceeds a limit is refused when it does.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The blob as it comes, in bytes.
    pub blob_bytes: u64,
    /// The uncompressed archive, in bytes.
    pub archive_bytes: u64,
    /// The file system image.
    pub image: erofs::Limits,
}

impl Default for Limits {
    /// Blobs of 32 GiB, archives of 64 GiB, and what [`erofs::Limits`] has.
    fn default() -> Self {
        Self {
            blob_bytes: 32 << 30,
            archive_bytes: 64 << 30,
            image: erofs::Limits::default(),
        }
    }
}

/// Why an image was not imported. Nothing of it is left in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The layout, its indices, manifest or configuration.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The image is for another machine.
    #[error("the image is for {os}/{architecture}, this machine runs linux/amd64")]
    Platform {
        /// The operating system it is for.
        os: String,
        /// The processor it is for.
        architecture: String,
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
    /// A blob is not what its descriptor says.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer cannot be decompressed.
    #[error("cannot decompress layer {digest}: {source}")]
    Decompress {
        /// The layer's blob.
        digest: Digest,
        /// What is wrong.
        source: io::Error,
    },
    /// A layer is malformed or asks for what no layer may have.
    #[error("layer {digest}: {source}")]
    Layer {
        /// The layer's blob.
        digest: Digest,
        /// What is wrong.
        source: LayerError,
    },
    /// A layer's archive is not the one that the configuration names.
    #[error("layer {digest} holds the archive {actual}, but the configuration says {expected}")]
    DiffId {
        /// The layer's blob.
        digest: Digest,
        /// The digest in the configuration.
        expected: Digest,
        /// The digest of the archive.
        actual: Digest,
    },
    /// A layer is too large.
    #[error("layer {digest} exceeds the {limit} bytes that are allowed")]
    TooLarge {
        /// The layer's blob.
        digest: Digest,
        /// The limit that it exceeds.
        limit: u64,
    },
    /// A file of the store could not be written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<DigestError> for ImportError {
    fn from(error: DigestError) -> Self {
        Self::Layout(LayoutError::Digest(error))
    }
}

/// Stages all that the image with this manifest consists of and is not in the store yet.
pub(crate) fn stage_image(
    state: &StateDir,
    staging: &mut Staging<'_>,
    layout: &OciLayout,
    manifest: BlobId,
    limits: &Limits,
) -> Result<ManifestRecord, ImportError> {
    let content = layout.read_document(manifest, "manifest")?;
    let document: ImageManifest = parse(&content, &format!("manifest {}", manifest.digest))?;
    let config = blob_id(document.config())?;
    let config_content = layout.read_document(config, "configuration")?;
    let configuration: ImageConfiguration =
        parse(&config_content, &format!("configuration {}", config.digest))?;
    let diff_ids = check_configuration(&configuration, document.layers())?;
    staging.add_blob(&manifest.digest, &content)?;
    staging.add_blob(&config.digest, &config_content)?;
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (descriptor, diff_id) in document.layers().iter().zip(diff_ids) {
        layers.push(stage_layer(state, staging, layout, descriptor, diff_id, limits)?);
    }
    Ok(ManifestRecord {
        config: config.digest,
        layers,
    })
}

/// The digests of the layers' archives, if the image can run here.
fn check_configuration(
    configuration: &ImageConfiguration,
    layers: &[Descriptor],
) -> Result<Vec<Digest>, ImportError> {
    if (configuration.os(), configuration.architecture()) != (&Os::Linux, &Arch::Amd64) {
        return Err(ImportError::Platform {
            os: configuration.os().to_string(),
            architecture: configuration.architecture().to_string(),
        });
    }
    let diff_ids = configuration.rootfs().diff_ids();
    if diff_ids.len() != layers.len() {
        return Err(ImportError::LayerCount {
            layers: layers.len(),
            diff_ids: diff_ids.len(),
        });
    }
    if layers.len() > MAX_LAYERS {
        return Err(ImportError::TooManyLayers(layers.len()));
    }
    Ok(diff_ids
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, DigestError>>()?)
}

/// Reads a layer's blob once: its bytes go to a copy, its files to a file system image, and both digests
/// are computed on the way. What the store has already is read all the same, because only whoever has a
/// layer's content may use it.
fn stage_layer(
    state: &StateDir,
    staging: &mut Staging<'_>,
    layout: &OciLayout,
    descriptor: &Descriptor,
    diff_id: Digest,
    limits: &Limits,
) -> Result<LayerRecord, ImportError> {
    let id = blob_id(descriptor)?;
    let digest = id.digest;
    let media_type = descriptor.media_type().to_string();
    if !LAYER_TYPES.iter().any(|prefix| media_type.starts_with(prefix)) {
        return Err(ImportError::LayerType { digest, media_type });
    }
    if id.size > limits.blob_bytes {
        return Err(ImportError::TooLarge {
            digest,
            limit: limits.blob_bytes,
        });
    }
    let (blob_path, layer_path) = (state.blob(&digest), state.layer(&diff_id));
    let has_blob = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.len() == id.size);
    let copy = staging
        .find(&blob_path, has_blob)
        .is_none()
        .then(|| state.create_temporary())
        .transpose()?;
    let existing = staging.find(&layer_path, is_whole_image);
    let image = existing.is_none().then(|| state.create_temporary()).transpose()?;

    let sink: Box<dyn Write> = match &copy {
        Some(file) => Box::new(file.as_file()),
        None => Box::new(io::sink()),
    };
    let mut blob = VerifyingReader::new(layout.open_blob(digest)?, sink, id);
    let unpacked = unpack(
        &mut blob,
        digest,
        diff_id,
        image.as_ref().map(|file| file.as_file()),
        limits,
    );
    // A damaged blob is the reason for whatever went wrong with its content.
    blob.finish()?;
    unpacked?;

    if let Some(copy) = copy {
        staging.add(copy, blob_path)?;
    }
    let image_path = existing
        .as_deref()
        .or(image.as_ref().map(|file| file.path()))
        .unwrap_or(&layer_path);
    let size = fs::metadata(image_path)
        .map_err(StateError::of("examine", &layer_path))?
        .len();
    if let Some(image) = image {
        staging.add(image, layer_path)?;
    }
    Ok(LayerRecord {
        diff_id,
        blob: digest,
        size,
    })
}

/// Whether `path` is an image that was written to its end.
fn is_whole_image(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let length = file.metadata().map(|metadata| metadata.len());
    match (length, erofs::Reader::open(file)) {
        (Ok(length), Ok(reader)) => length == reader.superblock().size(),
        _ => false,
    }
}

/// Decompresses a layer, checks its archive's digest and writes its files to `image`, if one is given.
fn unpack(
    blob: impl Read,
    digest: Digest,
    diff_id: Digest,
    image: Option<&File>,
    limits: &Limits,
) -> Result<(), ImportError> {
    let limit = limits.archive_bytes;
    let input = decompress(blob).map_err(|source| ImportError::Decompress { digest, source })?;
    let mut plain = PlainReader {
        input,
        hasher: Hasher::default(),
        read: 0,
        limit,
    };
    let converted = match image {
        Some(image) => write_image(&mut plain, diff_id, image, limits),
        None => Ok(()),
    };
    let drained = converted.is_err() || io::copy(&mut plain, &mut io::sink()).map(drop).is_ok();
    if plain.read > limit {
        return Err(ImportError::TooLarge { digest, limit });
    }
    converted.map_err(|source| ImportError::Layer { digest, source })?;
    if !drained {
        let source = io::Error::other("the data behind its archive is damaged");
        return Err(ImportError::Decompress { digest, source });
    }
    match plain.hasher.finish() {
        actual if actual == diff_id => Ok(()),
        actual => Err(ImportError::DiffId {
            digest,
            expected: diff_id,
            actual,
        }),
    }
}

fn write_image(
    plain: &mut impl Read,
    diff_id: Digest,
    image: &File,
    limits: &Limits,
) -> Result<(), LayerError> {
    let options = Options {
        uuid: uuid(diff_id),
        build_time: Timestamp::default(),
        limits: limits.image,
    };
    let mut writer = Writer::new(image, options);
    convert(
        Archive::new(BufReader::with_capacity(128 * 1024, plain)),
        &mut writer,
    )?;
    writer.finish()?;
    Ok(())
}

/// A UUID (RFC 9562, version 8) made of the digest's first bytes: equal layers give equal images.
fn uuid(diff_id: Digest) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&diff_id.as_bytes()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Hashes what it passes on, and ends with an error beyond its limit.
struct PlainReader<R> {
    input: R,
    hasher: Hasher,
    read: u64,
    limit: u64,
}

impl<R: Read> Read for PlainReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.read += count as u64;
        if self.read > self.limit {
            return Err(io::Error::other("the layer is larger than allowed"));
        }
        self.hasher.update(&into[..count]);
        Ok(count)
    }
}
