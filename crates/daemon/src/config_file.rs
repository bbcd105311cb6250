//! The configuration file: JSON, with the keys that Docker's `daemon.json` has for the same things.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::logging::LogLevel;
use crate::time_limit::TimeLimit;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too large to be one.
    #[error("the configuration {} has {bytes} bytes, more than {MAX_BYTES}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not understood.
    #[error(
        "the configuration {} is not understood: {source}; it is a JSON object, whose keys are those of Docker's \
         daemon.json that hull knows, such as \"hosts\" and \"insecure-registries\", and \"build-time-limit\"", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// What the file says. A key that hull does not know is a mistake, as it is with Docker.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    /// Addresses to listen on, if the command line names none.
    pub(crate) hosts: Vec<String>,
    /// Whether TCP is served with TLS.
    pub(crate) tls: Option<bool>,
    /// Whether clients are asked for a certificate.
    pub(crate) tlsverify: Option<bool>,
    /// The CAs of clients.
    pub(crate) tlscacert: Option<PathBuf>,
    /// The certificate of this server.
    pub(crate) tlscert: Option<PathBuf>,
    /// Its key.
    pub(crate) tlskey: Option<PathBuf>,
    /// Where counters are served.
    pub(crate) metrics_addr: Option<String>,
    /// How much is logged.
    pub(crate) log_level: Option<LogLevel>,
    /// Whether as much is logged as with the level debug.
    pub(crate) debug: bool,
    /// Registries that may be spoken to without TLS: `HOST[:PORT]` or a network.
    pub(crate) insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub: URLs.
    pub(crate) registry_mirrors: Vec<String>,
    /// How long a build may take; hull's own key.
    pub(crate) build_time_limit: Option<TimeLimit>,
    /// What the build cache may take: a size, or `none`.
    pub(crate) build_cache_limit: Option<String>,
}

impl ConfigFile {
    /// How much it wants logged.
    pub(crate) fn log_level(&self) -> Option<LogLevel> {
        self.log_level.or(self.debug.then_some(LogLevel::Debug))
    }

    /// Reads the file; nothing if it is not there and `optional`.
    pub(crate) fn read(path: &Path, optional: bool) -> Result<Self, ConfigFileError> {
        let read = |source| ConfigFileError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = match fs::metadata(path) {
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            metadata => metadata.map_err(read)?.len(),
        };
        if bytes > MAX_BYTES {
            return Err(ConfigFileError::TooLarge {
                path: path.to_owned(),
                bytes,
            });
        }
        let text = fs::read(path).map_err(read)?;
        serde_json::from_slice(&text).map_err(|source| ConfigFileError::Format {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ConfigFile, ConfigFileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        ConfigFile::read(file.path(), false)
    }

    #[test]
    fn dockers_keys_are_understood() {
        let config = read(
            r#"{"insecure-registries":["10.0.0.0/8"],"registry-mirrors":["https://m"],
                "build-time-limit":"1h30m",
                "hosts":["fd://"],"tlsverify":true,"tlscacert":"/ca","tlscert":"/cert","tlskey":"/key"}"#,
        )
        .unwrap();
        assert_eq!(
            (config.hosts, config.tlsverify),
            (vec!["fd://".into()], Some(true))
        );
        assert_eq!(config.tlskey, Some("/key".into()));
        assert_eq!(config.insecure_registries, ["10.0.0.0/8"]);
        assert_eq!(config.registry_mirrors, ["https://m"]);
        assert_eq!(config.build_time_limit, Some("90m".parse().unwrap()));
        assert_eq!(read("{}").unwrap(), ConfigFile::default());
    }

    #[test]
    fn an_unknown_key_and_broken_json_are_refused_by_the_files_name() {
        for text in [
            r#"{"insecure-registry":[]}"#,
            "{",
            r#"{"registry-mirrors":"x"}"#,
            r#"{"build-time-limit":5}"#,
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("is not understood"), "{error}");
        }
    }

    #[test]
    fn only_the_usual_file_may_be_missing() {
        let missing = Path::new("/nonexistent/hulld.json");
        assert_eq!(ConfigFile::read(missing, true).unwrap(), ConfigFile::default());
        assert!(ConfigFile::read(missing, false).is_err());
    }
}
