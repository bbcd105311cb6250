//! Which context is the current one: `currentContext` in `config.json`.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{ContextError, DEFAULT, Store, failed};
use crate::api::config_folder;

/// Names the context when `--context` does not.
pub(crate) const CONTEXT_VARIABLE: &str = "HULL_CONTEXT";

const KEY: &str = "currentContext";

/// The file that says so.
#[derive(Debug)]
pub(crate) struct Current {
    path: PathBuf,
    content: Map<String, Value>,
}

impl Current {
    /// Reads `config.json` of hull's folder; nothing is said where it is not there.
    pub(crate) fn load() -> Result<Self, ContextError> {
        Self::read(config_folder().join("config.json"))
    }

    fn read(path: PathBuf) -> Result<Self, ContextError> {
        let content = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| ContextError::Format {
                path: path.clone(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        Ok(Self { path, content })
    }

    /// The name in the file.
    pub(crate) fn name(&self) -> &str {
        let name = self.content.get(KEY).and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT)
    }

    /// Makes another one current.
    pub(crate) fn set(&mut self, name: &str) -> Result<(), ContextError> {
        if name == DEFAULT {
            self.content.remove(KEY);
        } else {
            self.content.insert(KEY.into(), name.into());
        }
        if self.content.is_empty() && !self.path.exists() {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(&self.content).unwrap_or_default();
        text.push(b'\n');
        Store::write(&self.path, &text, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(folder: &Path) -> Result<Current, ContextError> {
        Current::read(folder.join("config.json"))
    }

    #[test]
    fn the_current_context_is_kept_beside_what_else_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap().name(), DEFAULT);
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"other":1}"#).unwrap();
        read(folder.path()).unwrap().set("build").unwrap();
        let mut current = read(folder.path()).unwrap();
        assert_eq!(current.name(), "build");
        assert_eq!(current.content["other"], 1);
        current.set(DEFAULT).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"other\": 1\n}\n");
        fs::write(&path, "{").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json is not understood"), "{error}");
    }
}
