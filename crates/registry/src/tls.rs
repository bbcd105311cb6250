//! Whom a connection trusts and how it shows who we are: the system's CAs and the `certs.d` folders.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use endpoint::{Anybody, PemError, pem};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::host::Host;

/// A folder of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The disk.
    #[error("cannot read the certificates in {}: {source}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what the name promises.
    #[error(transparent)]
    File(#[from] PemError),
    /// One half of a client certificate.
    #[error(
        "{} has no {}: a client certificate is NAME.cert with NAME.key; a CA's certificate ends in .crt",
        path.display(), missing.display()
    )]
    Half {
        /// The half that is there.
        path: PathBuf,
        /// The file that should stand beside it.
        missing: PathBuf,
    },
}

/// What the folders of one host hold. Equal certificates share connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Certificates {
    /// CAs that count beside the system's.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// Our own certificate, its chain and its key.
    pub(crate) identity: Option<Identity>,
}

/// A client certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    /// PEM as it is in the file: the parsed form can be neither cloned nor compared.
    key: Vec<u8>,
    path: PathBuf,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.path.display())
    }
}

impl Certificates {
    /// Reads `DIR/HOST` of every one of `dirs`; a folder that is not there holds nothing.
    pub(crate) fn load(dirs: &[PathBuf], host: &Host) -> Result<Self, TlsError> {
        let mut certificates = Self::default();
        for dir in dirs {
            certificates.add_folder(&dir.join(host.to_string()))?;
        }
        Ok(certificates)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.identity.is_none()
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), TlsError> {
        let failed = |source| TlsError::Read {
            path: folder.to_path_buf(),
            source,
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(failed)?;
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.authorities.extend(pem::certificates(&path)?),
                Some("cert") => self.identity = Some(Identity::read(&path)?),
                Some("key") => {
                    let certificate = path.with_extension("cert");
                    if !certificate.exists() {
                        return Err(TlsError::Half {
                            path,
                            missing: certificate,
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Identity {
    fn read(path: &Path) -> Result<Self, TlsError> {
        let key_path = path.with_extension("key");
        if !key_path.exists() {
            return Err(TlsError::Half {
                path: path.to_path_buf(),
                missing: key_path,
            });
        }
        let key = pem::read(&key_path)?;
        pem::private_key_in(&key_path, &key)?;
        Ok(Self {
            chain: pem::certificates(path)?,
            key,
            path: path.to_path_buf(),
        })
    }
}

/// The CAs that this machine trusts. Some may be unreadable; a connection that needs those will say so.
pub(crate) fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!(%error, "some of the system's certificates cannot be read");
    }
    roots.add_parsable_certificates(loaded.certs);
    roots
}

/// TLS as a client: `system` and the folder's CAs are trusted, or anybody if `verify` is false.
pub(crate) fn client_config(
    system: &RootCertStore,
    certificates: &Certificates,
    verify: bool,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if verify {
        let mut roots = system.clone();
        roots.add_parsable_certificates(certificates.authorities.iter().cloned());
        builder.with_root_certificates(roots)
    } else {
        let anybody = Anybody::new(provider);
        builder.dangerous().with_custom_certificate_verifier(anybody)
    };
    let Some(identity) = &certificates.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let key = pem::private_key_in(&identity.path, &identity.key)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    builder.with_client_auth_cert(identity.chain.clone(), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Certificates, TlsError>) {
        let dir = tempfile::tempdir().unwrap();
        let host: Host = "registry.example:5000".parse().unwrap();
        std::fs::create_dir(dir.path().join("registry.example:5000")).unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join("registry.example:5000").join(name), content).unwrap();
        }
        let loaded = Certificates::load(&[dir.path().to_path_buf(), "/nowhere".into()], &host);
        (dir, loaded)
    }

    #[test]
    fn a_folder_holds_authorities_and_an_identity() {
        let (_dir, loaded) = folder(&[
            ("a.crt", CA),
            ("b.crt", CA),
            ("c.cert", CA),
            ("c.key", KEY),
            ("notes.txt", "x"),
        ]);
        let loaded = loaded.unwrap();
        assert_eq!(loaded.authorities.len(), 2);
        assert!(loaded.identity.is_some());
        assert!(!format!("{loaded:?}").contains("AAAA"));
    }

    #[test]
    fn half_an_identity_is_named() {
        let (_dir, loaded) = folder(&[("c.cert", CA)]);
        let message = loaded.unwrap_err().to_string();
        assert!(
            message.contains("c.cert has no ") && message.contains("c.key"),
            "{message}"
        );
        let (_dir, loaded) = folder(&[("c.key", KEY)]);
        let message = loaded.unwrap_err().to_string();
        assert!(
            message.contains("c.key has no ") && message.contains("c.cert"),
            "{message}"
        );
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let (_dir, loaded) = folder(&[("a.crt", "hello")]);
        let message = loaded.unwrap_err().to_string();
        assert!(
            message.ends_with("a.crt is of no use: it has no certificate in PEM"),
            "{message}"
        );
    }
}
