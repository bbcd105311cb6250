//! Debian's `docker-registry` on loopback, and images put into it without hull, so that each can be wrong in its own way.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::http;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An uncompressed layer.
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A registry without authentication and TLS.
pub(crate) struct LocalRegistry {
    folder: TempDir,
    process: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
}

impl LocalRegistry {
    /// An empty one.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (process, host) = launch(folder.path(), "127.0.0.1:0")?;
        Ok(Self {
            folder,
            process,
            host,
        })
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again, once it was killed, on the same port and with the same data.
    pub(crate) fn restart(&mut self) -> Result<()> {
        (self.process, self.host) = launch(self.folder.path(), &self.host.clone())?;
        Ok(())
    }

    /// The file in which it keeps a blob.
    pub(crate) fn blob_file(&self, blob: &Value) -> PathBuf {
        let digest = blob["digest"].as_str().expect("a descriptor has a digest");
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Takes a blob; its descriptor.
    pub(crate) fn put_blob(&self, repository: &str, media_type: &str, content: &[u8]) -> Result<Value> {
        let upload = format!("/v2/{repository}/blobs/uploads/");
        let started = http::request(&self.host, "POST", &upload, &[], b"")?.success()?;
        let location = started.headers.get("location").context("no place for the blob")?;
        let place = location
            .find("/v2/")
            .and_then(|start| location.get(start..))
            .context("no path")?;
        let descriptor = describe(media_type, content);
        let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
        let octets = [("Content-Type", "application/octet-stream")];
        http::request(
            &self.host,
            "PUT",
            &format!("{place}&digest={digest}"),
            &octets,
            content,
        )?
        .success()?;
        Ok(descriptor)
    }

    /// Takes a manifest or an index under a tag; its descriptor.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, manifest: &Value) -> Result<Value> {
        let media_type = manifest["mediaType"].as_str().context("no media type")?;
        let bytes = serde_json::to_vec(manifest)?;
        let target = format!("/v2/{repository}/manifests/{tag}");
        http::request(
            &self.host,
            "PUT",
            &target,
            &[("Content-Type", media_type)],
            &bytes,
        )?
        .success()?;
        Ok(describe(media_type, &bytes))
    }

    /// Takes an image of uncompressed layers; its manifest, and that one's descriptor.
    pub(crate) fn put_image(
        &self,
        repository: &str,
        tag: &str,
        architecture: &str,
        layers: &[Vec<u8>],
    ) -> Result<(Value, Value)> {
        let blobs: Result<Vec<Value>> = layers
            .iter()
            .map(|layer| self.put_blob(repository, TAR, layer))
            .collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        self.put_image_of(repository, tag, architecture, &blobs?, &diff_ids)
    }

    /// Takes an image of layers that are there.
    pub(crate) fn put_image_of(
        &self,
        repository: &str,
        tag: &str,
        architecture: &str,
        layers: &[Value],
        diff_ids: &[String],
    ) -> Result<(Value, Value)> {
        let config = json!({
            "created": "2026-01-02T03:04:05Z",
            "architecture": architecture,
            "os": "linux",
            "config": { "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.put_blob(repository, CONFIG, &serde_json::to_vec(&config)?)?;
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let descriptor = self.put_manifest(repository, tag, &manifest)?;
        Ok((manifest, descriptor))
    }
}

impl Drop for LocalRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `sha256:` and the digits.
pub(crate) fn digest(content: &[u8]) -> String {
    let digits: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digits}")
}

pub(crate) fn describe(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// An archive with one file of `size` bytes that no compression makes smaller and no other `seed` gives.
pub(crate) fn layer(name: &str, size: usize, seed: u64) -> Result<Vec<u8>> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    content.truncate(size);
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content.as_slice())?;
    Ok(archive.into_inner()?)
}

/// Starts it and waits until it listens; its address.
fn launch(folder: &Path, address: &str) -> Result<(Child, String)> {
    let config = folder.join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\nhttp:\n  addr: {address}\n",
        folder.join("data").display()
    );
    fs::write(&config, text)?;
    let mut process = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("docker-registry could not be run; Debian has it in the package docker-registry")?;
    let mut log = BufReader::new(process.stderr.take().context("no stderr")?);
    let mut said = String::new();
    let host = loop {
        let start = said.len();
        if log.read_line(&mut said)? == 0 {
            anyhow::bail!("docker-registry did not start:\n{said}");
        }
        if let Some((_, rest)) = said[start..].split_once("listening on ") {
            let host = rest.split(['"', ',', '\n', ' ']).next();
            break host.context("no address")?.to_owned();
        }
    };
    // It must not wait for a reader of its log.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Ok((process, host))
}
