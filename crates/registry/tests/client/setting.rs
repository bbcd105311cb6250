//! What the tests share: a client that does not wait long, an image, and its way to a registry and back.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::TryStreamExt;
use registry::{
    BlobDescriptor, BlobStream, Credentials, ManifestReference, Proxies, RawManifest, Registry,
    RegistryConfig, RegistryError, Repository, RetryPolicy, Timeouts, sha256,
};

/// A test that waits longer for what must be bounded has failed.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// A configuration that waits for nobody and knows no folder and no proxy of this machine.
pub(crate) fn config() -> RegistryConfig {
    RegistryConfig {
        certs_dirs: Vec::new(),
        insecure: Vec::new(),
        mirrors: Vec::new(),
        proxies: Proxies::default(),
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            answer: Duration::from_millis(1500),
            stall: Duration::from_millis(1500),
            commit: Duration::from_secs(2),
        },
        retries: RetryPolicy {
            attempts: 4,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_millis(400),
            longest_retry_after: Duration::from_secs(2),
        },
    }
}

/// A repository on `host` for a user without a name.
pub(crate) fn repository(host: &str) -> Result<Repository> {
    Ok(Registry::new(config())?.repository(host, "team/app", Credentials::Anonymous)?)
}

pub(crate) fn ann(password: &str) -> Credentials {
    Credentials::Basic {
        username: "ann".into(),
        password: password.into(),
    }
}

/// Bytes that no two pieces of a blob share.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

pub(crate) fn describe(bytes: &[u8]) -> BlobDescriptor {
    BlobDescriptor {
        digest: sha256(bytes),
        size: bytes.len() as u64,
    }
}

pub(crate) fn tag(name: &str) -> ManifestReference {
    ManifestReference::Tag(name.into())
}

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A manifest of one layer.
pub(crate) fn manifest(media_type: &str, config: &[u8], layer: &[u8]) -> Bytes {
    let (config_type, layer_type) = if media_type == OCI_MANIFEST {
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        )
    } else {
        (
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        )
    };
    let describe = |media_type: &str, bytes: &[u8]| {
        let blob = describe(bytes);
        serde_json::json!({ "mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.size })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": describe(config_type, config),
        "layers": [describe(layer_type, layer)],
    });
    manifest.to_string().into()
}

/// Sends bytes as a blob.
pub(crate) async fn push(repository: &Repository, bytes: &[u8]) -> Result<BlobDescriptor> {
    let blob = describe(bytes);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), bytes)?;
    repository
        .push_blob(&blob, &file.path().to_path_buf(), |_| {})
        .await?;
    Ok(blob)
}

/// Sends an image of one layer under a tag, and gives its manifest.
pub(crate) async fn push_image(repository: &Repository, name: &str, media_type: &str) -> Result<RawManifest> {
    let (config, layer) = (b"{}".to_vec(), content(100_000));
    push(repository, &config).await?;
    push(repository, &layer).await?;
    let bytes = manifest(media_type, &config, &layer);
    let digest = repository
        .push_manifest(&tag(name), media_type, bytes.clone())
        .await?;
    Ok(RawManifest {
        media_type: media_type.into(),
        digest,
        bytes,
    })
}

/// All bytes of a blob.
pub(crate) async fn read(stream: BlobStream) -> Result<Vec<u8>, RegistryError> {
    let pieces: Vec<Bytes> = stream.try_collect().await?;
    Ok(pieces.concat())
}

/// What `outcome` says; it must be an error, and come soon.
pub(crate) async fn refusal<T, E: std::fmt::Display>(
    outcome: impl Future<Output = Result<T, E>>,
) -> Result<String> {
    let start = Instant::now();
    let outcome = outcome.await;
    anyhow::ensure!(start.elapsed() < BOUND, "the refusal took {:?}", start.elapsed());
    match outcome {
        Ok(_) => anyhow::bail!("there was no refusal"),
        Err(error) => Ok(error.to_string()),
    }
}
