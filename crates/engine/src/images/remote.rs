//! The registry client in the words of the store: both have types of their own for digests and descriptors.

use std::io;
use std::path::Path;

use ::registry::{
    BlobDescriptor as RemoteBlob, BlobStream, Digest as RemoteDigest, ManifestReference, Platform,
    RawManifest as RemoteManifest, Repository, describe_platform, parse_platform, suits,
};
use futures_util::StreamExt;
use image_store::{
    BlobDescriptor, Digest, ImageConfiguration, ImageStore, RawManifest, Reference, platform_of,
};

use super::failure::ImageFailure;
use crate::{EngineError, ErrorKind, Result};

/// The platform that is asked for, or this machine's.
pub(crate) fn platform(text: Option<&str>) -> Result<Platform> {
    let own = format!("linux/{}", std::env::consts::ARCH);
    parse_platform(text.unwrap_or(&own)).map_err(|error| EngineError::Invalid(error.to_string()))
}

/// Refuses a configuration that is for another platform than was asked for.
pub(crate) fn check_platform(
    name: &str,
    config: &ImageConfiguration,
    wanted: &Platform,
) -> Result<(), ImageFailure> {
    let own = platform_of(config);
    if suits(&own, wanted) {
        return Ok(());
    }
    Err(ImageFailure::new(
        ErrorKind::NotFound,
        format!(
            "image with reference {name} was found but does not provide the specified platform ({}): it is for {}",
            describe_platform(wanted),
            describe_platform(&own)
        ),
    ))
}

/// A digest as the store has it: SHA-256.
pub(crate) fn digest(digest: &RemoteDigest) -> Result<Digest, ImageFailure> {
    let text = digest.to_string();
    text.parse().map_err(|error| {
        ImageFailure::new(
            ErrorKind::InvalidParameter,
            format!("the digest {text} cannot be used: {error}"),
        )
    })
}

/// The manifest that a reference leads to.
pub(crate) async fn manifest(
    repository: &Repository,
    reference: &Reference,
) -> ::registry::Result<RemoteManifest> {
    repository.manifest(&manifest_reference(reference)).await
}

fn manifest_reference(reference: &Reference) -> ManifestReference {
    match reference.digest() {
        Some(digest) => ManifestReference::Digest(remote_digest(digest)),
        None => ManifestReference::Tag(reference.tag().to_owned()),
    }
}

fn remote_digest(digest: &Digest) -> RemoteDigest {
    digest
        .to_string()
        .parse()
        .expect("64 hexadecimal digits behind `sha256:` are a digest on either side")
}

fn remote_blob(blob: &BlobDescriptor) -> RemoteBlob {
    RemoteBlob {
        digest: remote_digest(&blob.digest),
        size: blob.size,
    }
}

/// The manifest with a digest.
pub(crate) async fn manifest_by_digest(
    repository: &Repository,
    digest: &RemoteDigest,
) -> ::registry::Result<RemoteManifest> {
    repository
        .manifest(&ManifestReference::Digest(digest.clone()))
        .await
}

/// The pieces of a blob.
pub(crate) fn blob(repository: &Repository, blob: &BlobDescriptor) -> BlobStream {
    repository.blob(&remote_blob(blob))
}

/// Whether a repository has a blob.
pub(crate) async fn has_blob(repository: &Repository, blob: &BlobDescriptor) -> ::registry::Result<bool> {
    repository.has_blob(&remote_digest(&blob.digest)).await
}

/// Has the registry take a blob from another of its repositories; whether it did.
pub(crate) async fn mount_blob(
    repository: &Repository,
    blob: &BlobDescriptor,
    source: &str,
) -> ::registry::Result<bool> {
    repository.mount_blob(&remote_digest(&blob.digest), source).await
}

/// Pushes a blob of the store.
pub(crate) async fn push_blob(
    repository: &Repository,
    store: &ImageStore,
    blob: &BlobDescriptor,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> ::registry::Result<()> {
    let (store, digest) = (store.clone(), blob.digest);
    let source = move || store.open_blob(&digest).map_err(io::Error::other);
    repository.push_blob(&remote_blob(blob), &source, progress).await
}

/// Pushes a blob that lies in a file.
pub(crate) async fn push_file(
    repository: &Repository,
    blob: &BlobDescriptor,
    path: &Path,
) -> ::registry::Result<()> {
    let source = path.to_owned();
    repository.push_blob(&remote_blob(blob), &source, |_| {}).await
}

/// Pushes a manifest.
pub(crate) async fn push_manifest(
    repository: &Repository,
    reference: &Reference,
    manifest: &RawManifest,
) -> ::registry::Result<RemoteDigest> {
    let bytes = manifest.bytes.clone().into();
    repository
        .push_manifest(&manifest_reference(reference), &manifest.media_type, bytes)
        .await
}

/// A blob as a whole, which must have at most `limit` bytes.
pub(crate) async fn read_blob(
    repository: &Repository,
    descriptor: &BlobDescriptor,
    limit: u64,
) -> Result<Vec<u8>, ImageFailure> {
    let mut stream = blob(repository, descriptor);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| ImageFailure::of_registry(&error))?);
        if bytes.len() as u64 > limit {
            return Err(ImageFailure::internal(format!(
                "{} is longer than {limit} bytes",
                descriptor.digest
            )));
        }
    }
    Ok(bytes)
}
