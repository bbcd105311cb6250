//! Credentials of registries, where Docker's client keeps them: `config.json`, or the credential
//! helpers that it names.

mod config;
mod helper;
mod name;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Serialize;
use thiserror::Error;

pub(crate) use config::{ConfigFile, Kept};
pub(crate) use name::{DOCKER_HUB_KEY, RemoteName, registry_key};

/// The user name that stands for an identity token in a helper's store.
const TOKEN_USER: &str = "<token>";

/// Why credentials cannot be read or kept. No message holds a secret.
#[derive(Debug, Error)]
pub(crate) enum CredentialError {
    /// There is no place for them.
    #[error("cannot tell where Docker's config.json is: set HOME or DOCKER_CONFIG")]
    NoPlace,
    /// The file cannot be read or replaced.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what Docker's client writes.
    #[error("{}: {what}; mend the file or move it away", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A credential helper cannot be run.
    #[error("cannot run the credential helper {program}, which config.json names: {source}")]
    Helper {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A credential helper did not do what it was asked.
    #[error("the credential helper {program} failed to {action} credentials: {message}")]
    HelperFailed {
        /// The program.
        program: String,
        /// `get`, `store` or `erase`.
        action: &'static str,
        /// What it said.
        message: String,
    },
}

/// What proves who one is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// A password or an access token that takes its place.
    Password(String),
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

/// Who one is at a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The user.
    pub(crate) username: String,
    /// The proof.
    pub(crate) secret: Secret,
}

impl Credential {
    /// A user and a password.
    pub(crate) fn password(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            secret: Secret::Password(password.to_owned()),
        }
    }

    /// As `config.json` keeps it: base64 of `user:password`, and the token if it is one.
    fn encode(&self) -> (String, Option<&str>) {
        match &self.secret {
            Secret::Password(password) => (STANDARD.encode(format!("{}:{password}", self.username)), None),
            Secret::IdentityToken(token) => (STANDARD.encode(format!("{}:", self.username)), Some(token)),
        }
    }

    /// From what `config.json` keeps. Old clients padded the password with zeros.
    fn decode(auth: &str, identity_token: Option<&str>) -> Option<Self> {
        let decoded = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        let secret = match identity_token.filter(|token| !token.is_empty()) {
            Some(token) => Secret::IdentityToken(token.to_owned()),
            None => Secret::Password(password.trim_end_matches('\0').to_owned()),
        };
        Some(Self {
            username: username.to_owned(),
            secret,
        })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What the API calls an `AuthConfig`.
#[derive(Serialize)]
pub(crate) struct RegistryAuth<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    #[serde(rename = "identitytoken", skip_serializing_if = "str::is_empty")]
    identity_token: &'a str,
    #[serde(rename = "serveraddress")]
    server_address: &'a str,
}

impl<'a> RegistryAuth<'a> {
    /// The credential, if there is one, for the registry that `config.json` calls `server`.
    pub(crate) fn new(credential: Option<&'a Credential>, server: &'a str) -> Self {
        let (username, password, identity_token) = match credential {
            None => ("", "", ""),
            Some(Credential {
                username,
                secret: Secret::Password(password),
            }) => (username.as_str(), password.as_str(), ""),
            Some(Credential {
                secret: Secret::IdentityToken(token),
                ..
            }) => ("", "", token.as_str()),
        };
        Self {
            username,
            password,
            identity_token,
            server_address: server,
        }
    }

    /// The value of the header `X-Registry-Auth` (Docker Engine API, "Authentication").
    pub(crate) fn header(&self) -> String {
        // A struct of strings always has a JSON form.
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The value of `X-Registry-Auth` for the registry of an image's name, from what is kept.
pub(crate) fn auth_header(image: &str) -> Result<String, CredentialError> {
    let server = registry_key(image);
    let credential = ConfigFile::load()?.get(server)?;
    Ok(RegistryAuth::new(credential.as_ref(), server).header())
}

/// The value of `X-Registry-Config` (Docker Engine API, "Build an image"): all credentials that are kept, by registry. What
/// cannot be read is told, for a build may do without it.
pub(crate) fn config_header() -> Result<(String, Vec<CredentialError>), CredentialError> {
    let file = ConfigFile::load()?;
    let (mut known, mut errors) = (BTreeMap::new(), Vec::new());
    for server in file.registries() {
        match file.get(server) {
            Ok(Some(credential)) => {
                known.insert(server, credential);
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    let all: BTreeMap<_, _> = known
        .iter()
        .map(|(server, credential)| (server, RegistryAuth::new(Some(credential), server)))
        .collect();
    // A map of structs of strings always has a JSON form.
    let header = URL_SAFE.encode(serde_json::to_vec(&all).unwrap_or_default());
    Ok((header, errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_comes_back_from_its_encoding() {
        for credential in [
            Credential::password("me", "pass:word"),
            Credential {
                username: TOKEN_USER.to_owned(),
                secret: Secret::IdentityToken("refresh".to_owned()),
            },
        ] {
            let (auth, token) = credential.encode();
            assert_eq!(Credential::decode(&auth, token), Some(credential));
        }
        assert_eq!(Credential::decode("no base64", None), None);
    }

    #[test]
    fn the_header_says_what_the_api_wants_and_no_more() {
        let credential = Credential::password("me", "secret");
        let header = RegistryAuth::new(Some(&credential), "localhost:5000").header();
        let json: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"username": "me", "password": "secret", "serveraddress": "localhost:5000"})
        );
    }

    #[test]
    fn a_credential_never_shows_its_secret() {
        assert!(!format!("{:?}", Credential::password("me", "secret")).contains("secret"));
    }
}
