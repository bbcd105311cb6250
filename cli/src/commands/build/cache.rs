//! `--cache-from` and `--cache-to`: caches of other machines, and where that of this build goes.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use super::cache_folder;
use crate::api::Client;
use crate::commands::csv;
use crate::failure::complain;

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheFrom {
    /// Caches, or images that carry one, in registries: the daemon finds them.
    Images(Vec<String>),
    /// A folder here.
    Folder(PathBuf),
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheTo {
    /// The daemon sees to it.
    Daemon(DaemonCache),
    /// A folder here.
    Folder {
        /// Which one.
        path: PathBuf,
        /// `min` or `max`; none is the daemon's default.
        mode: Option<String>,
        /// Whether a failure is only told.
        ignore_error: bool,
    },
}

/// A cache that the daemon writes, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum DaemonCache {
    /// To a registry.
    Registry {
        /// Its name there.
        #[serde(rename = "ref")]
        name: String,
        /// `min` or `max`.
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
        /// Whether a failure is only told.
        #[serde(rename = "ignore-error", skip_serializing_if = "std::ops::Not::not")]
        ignore_error: bool,
    },
    /// Into the image itself.
    Inline {},
}

/// What describes no cache.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CacheError {
    /// There is no type.
    #[error("invalid cache '{0}': write an image's name, or type=TYPE,...")]
    NoType(String),
    /// A type that hull has not.
    #[error("invalid cache type '{kind}': must be one of {known}")]
    Type {
        /// The type.
        kind: String,
        /// Those that there are.
        known: &'static str,
    },
    /// Something is missing.
    #[error("a cache of type {kind} needs {field}: write type={kind},{field}=...")]
    Missing {
        /// The type.
        kind: String,
        /// What it needs.
        field: &'static str,
    },
    /// Something that such a cache has not.
    #[error("a cache of type {kind} has no '{field}': leave it out")]
    Field {
        /// The type.
        kind: String,
        /// The field as it was given.
        field: String,
    },
    /// No mode.
    #[error("invalid cache mode '{0}': must be min (the steps of the image) or max (those of all stages)")]
    Mode(String),
}

impl CacheFrom {
    /// The folder, if it is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Images(_) => None,
        }
    }
}

impl CacheTo {
    /// Writes it, if the daemon has not.
    pub(super) async fn deliver(&self, client: &Client, id: &str) -> anyhow::Result<()> {
        let Self::Folder {
            path,
            mode,
            ignore_error,
        } = self
        else {
            return Ok(());
        };
        match cache_folder::write(client, id, path, mode.as_deref()).await {
            Err(error) if *ignore_error => {
                complain(format_args!("warning: {error:#}"));
                Ok(())
            }
            written => written,
        }
    }
}

/// The fields of a cache, as they were given.
struct Fields {
    kind: String,
    fields: Vec<(String, String)>,
}

impl Fields {
    fn parse(text: &str) -> Result<Self, CacheError> {
        let mut fields = Vec::new();
        let mut kind = None;
        for field in csv::fields(text) {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value.to_owned()),
                Some((name, value)) => fields.push((name.to_owned(), value.to_owned())),
                None => return Err(CacheError::NoType(text.to_owned())),
            }
        }
        let kind = kind.ok_or_else(|| CacheError::NoType(text.to_owned()))?;
        Ok(Self { kind, fields })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.fields.iter().position(|(own, _)| own == name)?;
        Some(self.fields.remove(place).1)
    }

    fn need(&mut self, name: &'static str) -> Result<String, CacheError> {
        let value = self.take(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| CacheError::Missing {
            kind: self.kind.clone(),
            field: name,
        })
    }

    fn mode(&mut self) -> Result<Option<String>, CacheError> {
        match self.take("mode") {
            Some(mode) if !matches!(mode.as_str(), "min" | "max") => Err(CacheError::Mode(mode)),
            mode => Ok(mode),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, CacheError> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(CacheError::Field {
                kind: self.kind.clone(),
                field: format!("{name}={other}"),
            }),
        }
    }

    /// What was not taken is nothing that such a cache has.
    fn finish(self) -> Result<(), CacheError> {
        match self.fields.into_iter().next() {
            None => Ok(()),
            Some((name, value)) => Err(CacheError::Field {
                kind: self.kind,
                field: format!("{name}={value}"),
            }),
        }
    }
}

impl FromStr for CacheFrom {
    type Err = CacheError;

    fn from_str(text: &str) -> Result<Self, CacheError> {
        // As with Docker, what is no list of fields is a list of images.
        if !text.contains('=') {
            let images = text.split(',').filter(|image| !image.is_empty());
            return Ok(Self::Images(images.map(str::to_owned).collect()));
        }
        let mut fields = Fields::parse(text)?;
        let from = match fields.kind.as_str() {
            "registry" => Self::Images(vec![fields.need("ref")?]),
            "local" => Self::Folder(fields.need("src")?.into()),
            other => {
                return Err(CacheError::Type {
                    kind: other.to_owned(),
                    known: "registry or local",
                });
            }
        };
        fields.finish()?;
        Ok(from)
    }
}

impl FromStr for CacheTo {
    type Err = CacheError;

    fn from_str(text: &str) -> Result<Self, CacheError> {
        if !text.contains('=') && !text.is_empty() {
            return Ok(Self::Daemon(DaemonCache::Registry {
                name: text.to_owned(),
                mode: None,
                ignore_error: false,
            }));
        }
        let mut fields = Fields::parse(text)?;
        // What is written has these forms in any case.
        for form in ["oci-mediatypes", "image-manifest"] {
            if fields.fields.contains(&(form.to_owned(), "true".to_owned())) {
                fields.take(form);
            }
        }
        let to = match fields.kind.as_str() {
            "registry" => Self::Daemon(DaemonCache::Registry {
                name: fields.need("ref")?,
                mode: fields.mode()?,
                ignore_error: fields.flag("ignore-error")?,
            }),
            "local" => Self::Folder {
                path: fields.need("dest")?.into(),
                mode: fields.mode()?,
                ignore_error: fields.flag("ignore-error")?,
            },
            "inline" => Self::Daemon(DaemonCache::Inline {}),
            other => {
                return Err(CacheError::Type {
                    kind: other.to_owned(),
                    known: "registry, local or inline",
                });
            }
        };
        fields.finish()?;
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_written_as_buildxs() {
        let from = |text: &str| text.parse::<CacheFrom>();
        let images = |names: &[&str]| {
            Ok(CacheFrom::Images(
                names.iter().map(|name| (*name).to_owned()).collect(),
            ))
        };
        assert_eq!(from("a,b:1"), images(&["a", "b:1"]));
        assert_eq!(from("type=registry,ref=h:5/a:1"), images(&["h:5/a:1"]));
        assert_eq!(from("src=x,type=local"), Ok(CacheFrom::Folder("x".into())));
        let to = |text: &str| text.parse::<CacheTo>();
        let daemon = |text: &str| match to(text) {
            Ok(CacheTo::Daemon(cache)) => serde_json::to_string(&cache).unwrap(),
            other => format!("{other:?}"),
        };
        assert_eq!(daemon("h/a"), r#"{"type":"registry","ref":"h/a"}"#);
        assert_eq!(
            daemon("type=registry,ref=a,mode=max,ignore-error=true,image-manifest=true,oci-mediatypes=true"),
            r#"{"type":"registry","ref":"a","mode":"max","ignore-error":true}"#
        );
        assert_eq!(daemon("type=inline"), r#"{"type":"inline"}"#);
        let folder = CacheTo::Folder {
            path: "d".into(),
            mode: Some("min".into()),
            ignore_error: false,
        };
        assert_eq!(to("type=local,dest=d,mode=min"), Ok(folder));
    }

    #[test]
    fn what_is_no_cache_is_told() {
        let from = |text: &str| text.parse::<CacheFrom>().unwrap_err().to_string();
        let to = |text: &str| text.parse::<CacheTo>().unwrap_err().to_string();
        for (told, expected) in [
            (from("type=gha"), "must be one of registry or local"),
            (from("src=x"), "write an image's name"),
            (from("type=local"), "write type=local,src=..."),
            (from("type=local,src=x,tag=y"), "has no 'tag=y'"),
            (to("type=s3,bucket=x"), "must be one of registry, local or inline"),
            (to("type=local,src=x"), "write type=local,dest=..."),
            (to("type=registry,ref=x,mode=all"), "invalid cache mode 'all'"),
            (to("type=inline,mode=max"), "has no 'mode=max'"),
            (
                to("type=local,dest=x,compression=zstd"),
                "has no 'compression=zstd'",
            ),
            (to(""), "write an image's name"),
        ] {
            assert!(told.contains(expected), "{told}");
        }
    }
}
