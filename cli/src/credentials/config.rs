//! Docker's `config.json`: what hull does not know in it stays as it is.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::helper::Helper;
use super::{Credential, CredentialError};

/// The file, as it was read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    content: Map<String, Value>,
}

/// Where a credential went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Into the file, where anybody who reads it can see it.
    InFile,
    /// To a helper.
    WithHelper,
}

impl ConfigFile {
    /// Reads `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; empty when there is none.
    pub(crate) fn load() -> Result<Self, CredentialError> {
        let named = |name| env::var_os(name).filter(|value| !value.is_empty());
        let folder = named("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| named("HOME").map(|home| Path::new(&home).join(".docker")));
        Self::read(folder.ok_or(CredentialError::NoPlace)?.join("config.json"))
    }

    fn read(path: PathBuf) -> Result<Self, CredentialError> {
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|source| CredentialError::File {
                action: "read",
                path: path.clone(),
                source,
            })?,
        };
        if text.trim_ascii().is_empty() {
            return Ok(Self {
                path,
                content: Map::new(),
            });
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(content)) => Ok(Self { path, content }),
            Ok(_) => Err(CredentialError::Format {
                path,
                what: "it is no JSON object".to_owned(),
            }),
            // The parser's message tells a place and a kind, never the text.
            Err(error) => Err(CredentialError::Format {
                path,
                what: error.to_string(),
            }),
        }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept for a registry.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credential>, CredentialError> {
        if let Some(helper) = self.helper(server) {
            return helper.get(server);
        }
        let Some(Value::Object(auths)) = self.content.get("auths") else {
            return Ok(None);
        };
        // Old clients wrote whole URLs where only the host counts.
        let same_host = || {
            auths
                .iter()
                .find(|(key, _)| host(key) == host(server))
                .map(|(_, auth)| auth)
        };
        let Some(entry) = auths.get(server).or_else(same_host) else {
            return Ok(None);
        };
        let text = |name| entry.get(name).and_then(Value::as_str);
        Ok(text("auth").and_then(|auth| Credential::decode(auth, text("identitytoken"))))
    }

    /// Whether the file lists a registry, or has a helper of its own for it.
    pub(crate) fn knows(&self, server: &str) -> bool {
        let listed = match self.content.get("auths") {
            Some(Value::Object(auths)) => auths.keys().any(|key| host(key) == host(server)),
            _ => false,
        };
        listed
            || self
                .content
                .get("credHelpers")
                .and_then(|helpers| helpers.get(server))
                .is_some()
    }

    /// The registries that the file names: those whose credentials it or a helper keeps.
    pub(crate) fn registries(&self) -> BTreeSet<&str> {
        let keys = |name| match self.content.get(name) {
            Some(Value::Object(map)) => map.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        keys("auths").into_iter().chain(keys("credHelpers")).collect()
    }

    /// Keeps a credential for a registry, in the place of the one before.
    pub(crate) fn store(&mut self, server: &str, credential: &Credential) -> Result<Kept, CredentialError> {
        if let Some(helper) = self.helper(server) {
            helper.store(server, credential)?;
            // Docker lists the registries whose credentials a helper has.
            self.auths()?.insert(server.to_owned(), json!({}));
            self.write()?;
            return Ok(Kept::WithHelper);
        }
        let (auth, token) = credential.encode();
        let mut entry = json!({ "auth": auth });
        if let Some(token) = token {
            entry["identitytoken"] = token.into();
        }
        self.auths()?.insert(server.to_owned(), entry);
        self.write()?;
        Ok(Kept::InFile)
    }

    /// Forgets what is kept for a registry.
    pub(crate) fn erase(&mut self, server: &str) -> Result<(), CredentialError> {
        if let Some(helper) = self.helper(server) {
            helper.erase(server)?;
        }
        let auths = self.auths()?;
        let count = auths.len();
        auths.retain(|key, _| key != server && host(key) != host(server));
        if auths.len() == count {
            Ok(())
        } else {
            self.write()
        }
    }

    /// The helper for a registry: its own, else the one for all.
    fn helper(&self, server: &str) -> Option<Helper> {
        let own = self
            .content
            .get("credHelpers")
            .and_then(|helpers| helpers.get(server));
        let name = own.or_else(|| self.content.get("credsStore"))?.as_str()?;
        (!name.is_empty()).then(|| Helper::new(name))
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, CredentialError> {
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        match auths {
            Value::Object(auths) => Ok(auths),
            _ => Err(CredentialError::Format {
                path: self.path.clone(),
                what: "its `auths` is no JSON object".to_owned(),
            }),
        }
    }

    /// Replaces the file in one step. A symbolic link stays one.
    fn write(&self) -> Result<(), CredentialError> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        replace(&path, &self.content).map_err(|source| CredentialError::File {
            action: "write",
            path,
            source,
        })
    }
}

fn replace(path: &Path, content: &Map<String, Value>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = path.with_extension(format!("json.{}", std::process::id()));
    let written = write_secret(&new, content).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // What matters is the error from before.
        drop(fs::remove_file(&new));
    }
    written
}

/// A file that only its owner can read, from its first moment.
fn write_secret(path: &Path, content: &Map<String, Value>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut serializer = serde_json::Serializer::with_formatter(
        &mut file,
        serde_json::ser::PrettyFormatter::with_indent(b"\t"),
    );
    serde::Serialize::serialize(content, &mut serializer)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// The host and port of a registry, from any of the forms it is written in.
fn host(server: &str) -> &str {
    let rest = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn config(folder: &Path, text: &str) -> ConfigFile {
        let path = folder.join("config.json");
        fs::write(&path, text).unwrap();
        ConfigFile::read(path).unwrap()
    }

    #[test]
    fn what_is_stored_is_read_again_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = config(
            folder.path(),
            r#"{"detachKeys":"ctrl-x","auths":{"other":{"auth":"YTpi"}}}"#,
        );
        let credential = Credential::password("me", "secret");
        assert_eq!(file.store("localhost:5000", &credential).unwrap(), Kept::InFile);
        let mut again = ConfigFile::read(file.path().to_owned()).unwrap();
        assert_eq!(again.get("localhost:5000").unwrap(), Some(credential));
        assert_eq!(again.get("other").unwrap(), Some(Credential::password("a", "b")));
        assert_eq!(again.content["detachKeys"], "ctrl-x");
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        again.erase("localhost:5000").unwrap();
        assert_eq!(
            ConfigFile::read(file.path().to_owned())
                .unwrap()
                .get("localhost:5000")
                .unwrap(),
            None
        );
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn a_missing_file_is_made_with_its_folder_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        let mut file = ConfigFile::read(path.clone()).unwrap();
        file.store("a", &Credential::password("me", "x")).unwrap();
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777,
            0o700
        );
        let link = folder.path().join("config.json");
        symlink(&path, &link).unwrap();
        ConfigFile::read(link.clone())
            .unwrap()
            .store("b", &Credential::password("me", "y"))
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(ConfigFile::read(path).unwrap().get("b").unwrap().is_some());
    }

    #[test]
    fn urls_of_old_clients_are_found_by_their_host() {
        let folder = tempfile::tempdir().unwrap();
        let file = config(
            folder.path(),
            r#"{"auths":{"https://registry:5000/v1/":{"auth":"YTpi"}}}"#,
        );
        assert!(file.get("registry:5000").unwrap().is_some());
        assert_eq!(file.get("registry").unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in ["{", "[]", r#"{"auths":{"a":{"auth":"c2VjcmV0"}}"#] {
            fs::write(&path, text).unwrap();
            let error = ConfigFile::read(path.clone()).unwrap_err().to_string();
            assert!(
                error.contains("config.json") && !error.contains("c2VjcmV0"),
                "{error}"
            );
        }
        let mut file = config(folder.path(), r#"{"auths":[]}"#);
        assert!(file.store("a", &Credential::password("me", "x")).is_err());
    }

    #[test]
    fn a_registrys_own_helper_comes_before_the_one_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = config(
            folder.path(),
            r#"{"credsStore":"hull-test-all","credHelpers":{"r":"hull-test-own"}}"#,
        );
        for (server, program) in [
            ("r", "docker-credential-hull-test-own"),
            ("x", "docker-credential-hull-test-all"),
        ] {
            let error = file.get(server).unwrap_err().to_string();
            assert!(error.contains(program), "{error}");
        }
    }
}
