//! What images are made of, made to order.

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An uncompressed layer.
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes that cannot be compressed, other ones for each seed (xorshift64*).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A layer's archive: one file.
pub(crate) fn archive(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(content.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content)?;
    Ok(archive.into_inner()?)
}

/// A layer's archive: one file of noise.
pub(crate) fn layer(name: &str, size: usize, seed: u64) -> Result<Vec<u8>> {
    archive(name, &noise(seed, size))
}

/// `sha256:` and the digits.
pub(crate) fn digest(content: &[u8]) -> String {
    let digits: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digits}")
}

/// A descriptor.
pub(crate) fn describe(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// An image's configuration.
pub(crate) fn config(architecture: &str, diff_ids: &[String]) -> Value {
    json!({
        "created": "2026-01-02T03:04:05Z",
        "architecture": architecture,
        "os": "linux",
        "config": { "Cmd": ["/bin/true"], "Labels": { "made": "to order" } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// A manifest of what these descriptors tell of.
pub(crate) fn manifest(config: &Value, layers: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
}
