//! The folders of contexts.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{ContextError, Meta, TLS_FILES, failed};
use crate::api::{TlsSpec, config_folder};

/// All contexts of this user.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// The content of the files for TLS, by their names.
pub(crate) type TlsContent = Vec<(&'static str, Vec<u8>)>;

impl Store {
    /// The ones in hull's folder.
    pub(crate) fn open() -> Self {
        Self::at(&config_folder())
    }

    pub(super) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.join("contexts"),
        }
    }

    /// The folder with the description of a context.
    pub(crate) fn meta_folder(&self, name: &str) -> PathBuf {
        self.folder.join("meta").join(id(name))
    }

    /// The folder with a context's secrets.
    pub(crate) fn tls_folder(&self, name: &str) -> PathBuf {
        self.folder.join("tls").join(id(name))
    }

    /// One context.
    pub(crate) fn get(&self, name: &str) -> Result<Meta, ContextError> {
        let path = self.meta_folder(name).join("meta.json");
        match fs::read(&path) {
            Ok(text) => parse(&text, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ContextError::NotFound {
                name: name.to_owned(),
                path,
            }),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    /// Whether there is one of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.meta_folder(name).exists()
    }

    /// All of them, by their names.
    pub(crate) fn list(&self) -> Result<Vec<Meta>, ContextError> {
        let folder = self.folder.join("meta");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("list", &folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("list", &folder))?.path().join("meta.json");
            let text = fs::read(&path).map_err(failed("read", &path))?;
            all.push(parse(&text, &path)?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Keeps a context under its name, in the place of one that is there.
    pub(crate) fn put(&self, meta: &Meta) -> Result<(), ContextError> {
        let path = self.meta_folder(&meta.name).join("meta.json");
        let text = serde_json::to_vec(meta).map_err(|source| ContextError::Format {
            path: path.clone(),
            source,
        })?;
        Self::write(&path, &text, 0o644)
    }

    /// The content of the files for TLS that a context has.
    pub(crate) fn tls_content(&self, name: &str) -> Result<TlsContent, ContextError> {
        let mut content = Vec::new();
        for (file, path) in self.tls_files(name) {
            content.push((file, fs::read(&path).map_err(failed("read", path))?));
        }
        Ok(content)
    }

    /// The files for TLS that a context has.
    pub(crate) fn tls_files(&self, name: &str) -> Vec<(&'static str, PathBuf)> {
        let folder = self.tls_folder(name).join("docker");
        let files = TLS_FILES.map(|file| (file, folder.join(file)));
        files.into_iter().filter(|(_, path)| path.exists()).collect()
    }

    /// Puts files for TLS in the place of those that are there.
    pub(crate) fn put_tls(&self, name: &str, content: &TlsContent) -> Result<(), ContextError> {
        remove(&self.tls_folder(name))?;
        for (file, bytes) in content {
            Self::write(&self.tls_folder(name).join("docker").join(file), bytes, 0o600)?;
        }
        Ok(())
    }

    /// Removes a context and its secrets; there need not be one.
    pub(crate) fn remove(&self, name: &str) -> Result<(), ContextError> {
        remove(&self.tls_folder(name))?;
        remove(&self.meta_folder(name))
    }

    /// How the daemon of a context is spoken to.
    pub(crate) fn tls(&self, meta: &Meta) -> Option<TlsSpec> {
        let files = self.tls_files(&meta.name);
        let file = |name| {
            files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, path)| path.clone())
        };
        let skip = meta.endpoints.docker.skip_tls_verify;
        (skip || !files.is_empty()).then(|| TlsSpec {
            verify: !skip,
            authorities: file("ca.pem"),
            certificate: file("cert.pem"),
            key: file("key.pem"),
        })
    }

    /// Writes a file as a whole, and the folders on the way to it, which are the user's alone.
    pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ContextError> {
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(failed("create the folder", folder))?;
        }
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // What matters is the error from before.
            drop(fs::remove_file(&new));
        }
        written.map_err(failed("write", path))
    }
}

fn remove(folder: &Path) -> Result<(), ContextError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn parse(text: &[u8], path: &Path) -> Result<Meta, ContextError> {
    serde_json::from_slice(text).map_err(|source| ContextError::Format {
        path: path.to_owned(),
        source,
    })
}

/// The name of a context's folders.
fn id(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn meta(name: &str) -> Meta {
        Meta {
            name: name.into(),
            ..Meta::default()
        }
    }

    #[test]
    fn a_context_lies_where_dockers_would() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        store.put(&meta("foo")).unwrap();
        store
            .put_tls("foo", &vec![("key.pem", b"secret".to_vec())])
            .unwrap();
        let id = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let contexts = folder.path().join("contexts");
        assert!(contexts.join("meta").join(id).join("meta.json").exists());
        let key = contexts.join("tls").join(id).join("docker/key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let tls = store.tls(&store.get("foo").unwrap()).unwrap();
        assert!(tls.verify && tls.key == Some(key) && tls.authorities.is_none());
    }

    #[test]
    fn contexts_are_listed_by_name_and_gone_when_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        assert!(store.list().unwrap().is_empty());
        for name in ["b2", "a1"] {
            store.put(&meta(name)).unwrap();
        }
        let names: Vec<String> = store.list().unwrap().into_iter().map(|meta| meta.name).collect();
        assert_eq!(names, ["a1", "b2"]);
        store.remove("a1").unwrap();
        store.remove("a1").unwrap();
        assert!(!store.has("a1") && store.has("b2"));
        let error = store.get("a1").unwrap_err().to_string();
        assert!(
            error.starts_with("context \"a1\": context not found: open "),
            "{error}"
        );
    }
}
