//! Doors for the fuzzers in `fuzz/`, which build with `--cfg fuzzing`: what registries say, without a registry.

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use crate::challenge::Challenge;
use crate::manifest::{ManifestReference, RawManifest};
use crate::platform::{choose_platform, parse_platform};

/// The token server to which an answer with these `WWW-Authenticate` headers sends the credentials.
pub fn token_server<'a>(headers: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let values = headers.filter_map(|value| HeaderValue::from_bytes(value).ok());
    let headers: HeaderMap = values.map(|value| (WWW_AUTHENTICATE, value)).collect();
    match Challenge::of(&headers) {
        Challenge::Bearer { realm, .. } => Some(realm.to_string()),
        Challenge::None | Challenge::Basic => None,
    }
}

/// Takes bytes as the answer to a request for a manifest; what is an index has an image chosen from it.
pub fn manifest(bytes: &[u8]) {
    let tag = ManifestReference::Tag("latest".to_owned());
    let answer = RawManifest::verified(&tag, &HeaderMap::new(), Bytes::copy_from_slice(bytes));
    let manifest = answer.expect("bytes are what they are");
    let again = RawManifest::verified(
        &ManifestReference::Digest(manifest.digest.clone()),
        &HeaderMap::new(),
        manifest.bytes.clone(),
    );
    assert_eq!(again.expect("bytes have their digest"), manifest);
    assert!(manifest.media_type.len() <= 255);
    let Ok(index) = serde_json::from_slice(bytes) else {
        return;
    };
    for wanted in ["linux/amd64", "linux/arm/v7", "linux/s390x"] {
        let wanted = parse_platform(wanted).expect("a platform");
        if let Err(error) = choose_platform(&index, &wanted) {
            assert!(!error.to_string().contains(char::is_control));
        }
    }
}
