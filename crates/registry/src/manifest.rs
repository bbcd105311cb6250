//! Manifests and indexes: how they are named, and what of an answer is believed.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use oci_spec::image::Digest;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;

use crate::config::ConfigError;
use crate::digest::{DigestMismatch, Verifier, sha256};
use crate::session::text;

/// Bytes of a manifest or an index: the limit that registries have, too (distribution specification, "Pushing
/// manifests").
pub const MAX_MANIFEST: u64 = 4 << 20;

/// What hull understands, best first.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// The name of a manifest in its repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManifestReference {
    /// A tag, which may lead elsewhere tomorrow.
    Tag(String),
    /// A digest, which does not.
    Digest(Digest),
}

impl FromStr for ManifestReference {
    type Err = ConfigError;

    /// Takes a tag or a digest.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if let Some(digest) = text.contains(':').then(|| text.parse().ok()).flatten() {
            return Ok(Self::Digest(digest));
        }
        if is_tag(text) {
            return Ok(Self::Tag(text.to_string()));
        }
        Err(ConfigError::Tag(text.chars().take(128).collect()))
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution specification, "Pulling manifests").
pub(crate) fn is_tag(text: &str) -> bool {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first
        && text.len() <= 128
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => f.write_str(digest.as_ref()),
        }
    }
}

impl ManifestReference {
    /// As it stands in a path. A tag that was not parsed may hold anything.
    pub(crate) fn checked(&self) -> Result<String, ConfigError> {
        match self {
            Self::Tag(tag) if !is_tag(tag) => Err(ConfigError::Tag(tag.chars().take(128).collect())),
            _ => Ok(self.to_string()),
        }
    }
}

/// A manifest or an index as the registry has it, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    /// What the registry calls it: one of the OCI's or Docker's types for manifests and indexes, or anything.
    pub media_type: String,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// At most [`MAX_MANIFEST`].
    pub bytes: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

impl RawManifest {
    /// Whether this is an index (or Docker's manifest list): it names manifests for several platforms.
    pub fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
    }

    /// What an answer brought, if it is what `reference` names or, for a tag, what the registry says it is.
    pub(crate) fn verified(
        reference: &ManifestReference,
        headers: &HeaderMap,
        bytes: Bytes,
    ) -> Result<Self, ManifestError> {
        let digest = match reference {
            ManifestReference::Digest(digest) => digest.clone(),
            ManifestReference::Tag(_) => announced(headers).unwrap_or_else(|| sha256(&bytes)),
        };
        let mut verifier = Verifier::new(&digest)?;
        verifier.update(&bytes);
        verifier.finish()?;
        Ok(Self {
            media_type: media_type(headers, &bytes),
            digest,
            bytes,
        })
    }
}

/// Why an answer is not the manifest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error(transparent)]
    Digest(#[from] DigestMismatch),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The digest that the registry says a manifest has.
pub(crate) fn announced(headers: &HeaderMap) -> Option<Digest> {
    text(headers, "docker-content-digest")?.parse().ok()
}

/// The type in the header, or in the manifest itself if the server has none to speak of.
fn media_type(headers: &HeaderMap, bytes: &[u8]) -> String {
    let header = text(headers, CONTENT_TYPE.as_str())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    let vague = ["", "application/json", "application/octet-stream", "text/plain"];
    match header.filter(|value| !vague.contains(value) && value.len() <= 255) {
        Some(value) => value.to_ascii_lowercase(),
        None => {
            let typed = serde_json::from_slice::<Typed>(bytes).ok();
            typed
                .and_then(|typed| typed.media_type)
                .filter(|value| value.len() <= 255)
                .unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_reference_is_a_tag_or_a_digest() {
        assert_eq!(
            "latest".parse::<ManifestReference>().unwrap(),
            ManifestReference::Tag("latest".into())
        );
        let digest = sha256(b"").to_string();
        assert_eq!(digest.parse::<ManifestReference>().unwrap().to_string(), digest);
        for text in [
            "",
            ".x",
            "-x",
            "a/b",
            "a b",
            "sha256:12",
            "../x",
            &"x".repeat(129),
        ] {
            assert!(text.parse::<ManifestReference>().is_err(), "{text}");
        }
        assert!(ManifestReference::Tag("../../v2".into()).checked().is_err());
    }

    #[test]
    fn the_type_comes_from_the_header_or_the_manifest() {
        let typed = br#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
        let oci = "application/vnd.oci.image.manifest.v1+json";
        assert_eq!(
            media_type(
                &headers(&[(
                    "content-type",
                    "application/vnd.oci.image.manifest.v1+json; charset=utf-8"
                )]),
                typed
            ),
            oci
        );
        for header in [headers(&[("content-type", "application/json")]), headers(&[])] {
            assert_eq!(
                media_type(&header, typed),
                "application/vnd.oci.image.index.v1+json"
            );
        }
        assert_eq!(media_type(&headers(&[]), b"not json"), "");
    }

    #[test]
    fn a_digest_that_lies_is_found() {
        let wrong = headers(&[(
            "docker-content-digest",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        )]);
        let tag = ManifestReference::Tag("x".into());
        assert!(matches!(
            RawManifest::verified(&tag, &wrong, Bytes::new()),
            Err(ManifestError::Digest(_))
        ));
        assert_eq!(
            RawManifest::verified(&tag, &headers(&[]), Bytes::new())
                .unwrap()
                .digest,
            sha256(b"")
        );
    }

    proptest! {
        #[test]
        fn a_reference_that_is_accepted_is_one_path_component(text in ".{0,140}") {
            if let Ok(reference) = text.parse::<ManifestReference>() {
                let name = reference.checked().unwrap();
                prop_assert!(!name.contains(['/', '?', '#', '%']) && name != "." && name != "..");
            }
        }
    }
}
