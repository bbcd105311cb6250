//! The credentials that a client sends along (Docker Engine API, "Authentication").

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::RegistryCredentials;
use serde::Deserialize;

const HEADER: &str = "x-registry-auth";

/// URL-safe base64; some clients leave the padding out.
pub(in crate::routes) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Docker's `AuthConfig`. It has no `Debug`, for it holds secrets.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::routes) struct AuthConfig {
    username: String,
    password: String,
    auth: String,
    #[serde(rename = "serveraddress")]
    pub(super) server_address: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

impl AuthConfig {
    pub(in crate::routes) fn credentials(self) -> RegistryCredentials {
        if !self.registry_token.is_empty() {
            return RegistryCredentials::RegistryToken(self.registry_token);
        }
        if !self.identity_token.is_empty() {
            return RegistryCredentials::IdentityToken(self.identity_token);
        }
        let (username, password) = match self.username.is_empty() {
            false => (self.username, self.password),
            true => match decode_pair(&self.auth) {
                Some(pair) => pair,
                None => return RegistryCredentials::Anonymous,
            },
        };
        RegistryCredentials::Basic { username, password }
    }
}

/// The base64 of `user:password`.
fn decode_pair(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    (!username.is_empty()).then(|| (username.to_owned(), password.to_owned()))
}

/// The credentials of a request. A header that cannot be read counts as none, as with Docker.
pub(super) fn credentials(headers: &HeaderMap) -> RegistryCredentials {
    let config = headers.get(HEADER).and_then(|value| {
        let json = BASE64.decode(value.as_bytes()).ok()?;
        serde_json::from_slice::<AuthConfig>(&json).ok()
    });
    config.unwrap_or_default().credentials()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

    fn read(json: &str) -> RegistryCredentials {
        let padded = BASE64_URL_SAFE.encode(json);
        let bare = BASE64_URL_SAFE_NO_PAD.encode(json);
        let [padded, bare] = [padded, bare].map(|text| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().unwrap());
            credentials(&headers)
        });
        assert!(padded == bare);
        padded
    }

    #[test]
    fn each_kind_of_credential_is_read() {
        let basic = RegistryCredentials::Basic {
            username: "me".into(),
            password: "secret?>".into(),
        };
        assert!(read(r#"{"username":"me","password":"secret?>","serveraddress":"x"}"#) == basic);
        assert!(read(r#"{"auth":"bWU6c2VjcmV0Pz4="}"#) == basic);
        assert!(read(r#"{"identitytoken":"t"}"#) == RegistryCredentials::IdentityToken("t".into()));
        assert!(read(r#"{"registrytoken":"t"}"#) == RegistryCredentials::RegistryToken("t".into()));
        assert!(read("{}") == RegistryCredentials::Anonymous);
        assert!(read("nonsense") == RegistryCredentials::Anonymous);
    }
}
