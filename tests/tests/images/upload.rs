//! Images put into a registry without hull, so that each can be wrong in its own way.

use anyhow::{Context, Result};
use serde_json::Value;
use system_tests::DockerRegistry;

use crate::content::{self, CONFIG, TAR, describe, digest};
use crate::http::{self, Answer};

/// Puts a blob there; its descriptor.
pub(crate) fn blob(
    registry: &DockerRegistry,
    repository: &str,
    media_type: &str,
    content: &[u8],
) -> Result<Value> {
    let upload = format!("/v2/{repository}/blobs/uploads/");
    let started = http::request(&registry.host, "POST", &upload, &[], b"")?.success()?;
    let location = started.headers.get("location").context("no place for the blob")?;
    let place = location
        .find("/v2/")
        .and_then(|start| location.get(start..))
        .context("no path")?;
    let descriptor = describe(media_type, content);
    let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
    let target = format!("{place}&digest={digest}");
    put(registry, &target, "application/octet-stream", content)?;
    Ok(descriptor)
}

/// Puts a manifest there under a tag.
fn manifest(registry: &DockerRegistry, repository: &str, tag: &str, manifest: &Value) -> Result<()> {
    let media_type = manifest["mediaType"].as_str().context("no media type")?;
    let target = format!("/v2/{repository}/manifests/{tag}");
    put(registry, &target, media_type, manifest.to_string().as_bytes())?;
    Ok(())
}

/// Puts an image of uncompressed layers there; its manifest.
pub(crate) fn image(
    registry: &DockerRegistry,
    repository: &str,
    tag: &str,
    layers: &[Vec<u8>],
) -> Result<Value> {
    let blobs: Result<Vec<Value>> = layers
        .iter()
        .map(|layer| blob(registry, repository, TAR, layer))
        .collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    image_of(registry, repository, tag, &blobs?, &diff_ids)
}

/// Puts an image of layers there that are there already; its manifest.
pub(crate) fn image_of(
    registry: &DockerRegistry,
    repository: &str,
    tag: &str,
    layers: &[Value],
    diff_ids: &[String],
) -> Result<Value> {
    let config = content::config("amd64", diff_ids).to_string();
    let config = blob(registry, repository, CONFIG, config.as_bytes())?;
    let document = content::manifest(&config, layers);
    manifest(registry, repository, tag, &document)?;
    Ok(document)
}

fn put(registry: &DockerRegistry, target: &str, media_type: &str, body: &[u8]) -> Result<Answer> {
    let headers = [("Content-Type", media_type)];
    http::request(&registry.host, "PUT", target, &headers, body)?.success()
}
