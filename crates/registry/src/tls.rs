//! Whom a connection trusts and how it shows who we are: the system's CAs and the `certs.d` folders.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::host::Host;

/// A folder of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The disk.
    #[error("cannot read the certificates in {}: {source}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what the name promises.
    #[error("{} is of no use: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
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

/// Bytes of a file in `certs.d`: a whole bundle of CAs has a fifth of this.
const MAX_FILE: u64 = 1 << 20;

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
                Some("crt") => self.authorities.extend(read_certificates(&path)?),
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
        let key = read_bounded(&key_path)?;
        if let Err(error) = PrivateKeyDer::from_pem_slice(&key) {
            return Err(TlsError::File {
                path: key_path,
                reason: describe(&error),
            });
        }
        Ok(Self {
            chain: read_certificates(path)?,
            key,
            path: path.to_path_buf(),
        })
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_path_buf(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(TlsError::File {
            path: path.to_path_buf(),
            reason: format!("it has {size} bytes"),
        });
    }
    std::fs::read(path).map_err(failed)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason| TlsError::File {
        path: path.to_path_buf(),
        reason,
    };
    let pem = read_bounded(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(refuse("it holds no PEM certificate".to_string())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(refuse(describe(&error))),
    }
}

fn describe(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds no PEM item of this kind".to_string(),
        other => format!("it is no PEM file ({other})"),
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
        let anybody = Arc::new(Anybody(provider));
        builder.dangerous().with_custom_certificate_verifier(anybody)
    };
    let Some(identity) = &certificates.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(&identity.key)
        .map_err(|error| rustls::Error::General(describe(&error)))?;
    builder.with_client_auth_cert(identity.chain.clone(), key)
}

/// Takes any certificate: for registries that the configuration calls insecure, as Docker does. Signatures
/// are verified all the same, so that the peer has the key of the certificate that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
            message.ends_with("a.crt is of no use: it holds no PEM certificate"),
            "{message}"
        );
    }
}
