//! Contexts: names for daemons, kept as Docker's CLI keeps its own, so that either reads what the other exports.
//!
//! `contexts/meta/ID/meta.json` says what a context is, `contexts/tls/ID/docker` has its certificates; ID is the SHA-256 of
//! the name. They lie in hull's folder and not in Docker's: the current context of the one is not the other's.

mod archive;
mod current;
mod store;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

pub(crate) use archive::{export, import};
pub(crate) use current::{CONTEXT_VARIABLE, Current};
pub(crate) use store::Store;

/// The context that stands for what holds without contexts.
pub(crate) const DEFAULT: &str = "default";

/// The names of the files in a context's folder for TLS.
pub(crate) const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// What does not go with contexts. Docker's words where scripts may look.
#[derive(Debug, Error)]
pub(crate) enum ContextError {
    #[error("context {name:?}: context not found: open {}: no such file or directory", path.display())]
    NotFound { name: String, path: PathBuf },
    #[error("context {0:?} already exists")]
    Exists(String),
    #[error("{DEFAULT:?} is a reserved context name")]
    Reserved,
    #[error(
        "context name {0:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )]
    Name(String),
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is not understood: {source}; remove it, or write it anew", path.display())]
    Format {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the archive {from} is no context: {reason}")]
    Archive { from: String, reason: String },
}

/// What a context is (`meta.json`). What another program keeps there stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Meta {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) metadata: Map<String, Value>,
    #[serde(default)]
    pub(crate) endpoints: Endpoints,
}

/// The daemons of a context; hull's is the one of Docker's API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    pub(crate) docker: DockerEndpoint,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Where a daemon is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DockerEndpoint {
    #[serde(rename = "Host", default)]
    pub(crate) host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    pub(crate) skip_tls_verify: bool,
}

impl Meta {
    /// What people wrote about it.
    pub(crate) fn description(&self) -> &str {
        self.metadata
            .get("Description")
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// Puts a text there; an empty one takes it away.
    pub(crate) fn describe(&mut self, text: &str) {
        if text.is_empty() {
            self.metadata.remove("Description");
        } else {
            self.metadata.insert("Description".into(), text.into());
        }
    }
}

/// Whether a context may have this name, which is part of no path but is printed and typed.
pub(crate) fn check_name(name: &str) -> Result<(), ContextError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
    let starts = name
        .bytes()
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric());
    match name {
        DEFAULT => Err(ContextError::Reserved),
        _ if starts && name.len() > 1 && name.bytes().all(valid) => Ok(()),
        _ => Err(ContextError::Name(name.to_owned())),
    }
}

fn failed(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ContextError {
    let path = path.into();
    move |source| ContextError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for name in ["a1", "my-context", "x.y_z+1"] {
            check_name(name).unwrap();
        }
        for name in ["", "a", "-a", "a b", "a/b", "é1", "../x"] {
            assert!(matches!(check_name(name), Err(ContextError::Name(_))), "{name}");
        }
        assert!(matches!(check_name("default"), Err(ContextError::Reserved)));
    }

    #[test]
    fn what_docker_writes_is_read_and_written_the_same() {
        let text = r#"{"Name":"copy","Metadata":{"Description":"a test","x":1},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false},"kubernetes":{}}}"#;
        let meta: Meta = serde_json::from_str(text).unwrap();
        assert_eq!(meta.description(), "a test");
        assert_eq!(serde_json::to_string(&meta).unwrap(), text);
    }
}
