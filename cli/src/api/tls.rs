//! TLS to a daemon: whom we trust, and who we are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

/// Files, and how much is asked of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsSpec {
    /// The daemon must show a certificate of one of `authorities` for its name.
    pub(crate) verify: bool,
    /// CAs in PEM.
    pub(crate) authorities: Option<PathBuf>,
    /// Our certificate in PEM.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key in PEM.
    pub(crate) key: Option<PathBuf>,
}

/// Files that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is of no use: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    #[error(
        "--tlsverify needs the CA of the daemon's certificate: give --tlscacert FILE, or put ca.pem into the folder that \
         HULL_CERT_PATH names"
    )]
    NoAuthority,
    #[error("a client certificate is a certificate and its key: {0} is missing")]
    Half(&'static str),
    #[error("{host:?} is no name that a certificate could be for")]
    Name { host: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

impl TlsSpec {
    /// Reads the files.
    pub(crate) fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = if self.verify {
            let path = self.authorities.as_deref().ok_or(TlsError::NoAuthority)?;
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| useless(path, &error))?;
            }
            builder.with_root_certificates(roots)
        } else {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody)
        };
        let config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
                    pem::Error::NoItemsFound => useless(key, &"it has no private key in PEM"),
                    error => useless(key, &error),
                })?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, secret)
                    .map_err(|error| useless(certificate, &error))?
            }
            (Some(_), None) => return Err(TlsError::Half("--tlskey")),
            (None, Some(_)) => return Err(TlsError::Half("--tlscert")),
        };
        Ok(Arc::new(config))
    }
}

/// A host as the name in a certificate.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name {
        host: host.to_owned(),
    })
}

/// What to do about a handshake that failed like this.
pub(super) fn advice(error: &rustls::Error) -> &'static str {
    use AlertDescription::{AccessDenied, BadCertificate, CertificateRequired, DecryptError, UnknownCA};
    match error {
        rustls::Error::AlertReceived(CertificateRequired) => {
            "it wants a client certificate: give --tlscert and --tlskey"
        }
        rustls::Error::AlertReceived(UnknownCA | BadCertificate | AccessDenied | DecryptError) => {
            "it does not take our certificate: have its CA sign one, and give that with --tlscert and --tlskey"
        }
        rustls::Error::InvalidCertificate(_) => {
            "its certificate is not one of the CA in --tlscacert for this name: give the CA that signed it"
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS at this port",
        _ => "TLS with it is not possible like this",
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(useless(path, &"it has no certificate in PEM")),
        all => all.map_err(|error| useless(path, &error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn useless(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Takes any certificate, as `--tls` without `--tlsverify` and `skip-tls-verify` ask for. Signatures are verified all the
/// same, so that the daemon has the key of the certificate that it shows.
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
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifying_without_a_ca_and_half_a_certificate_are_refused() {
        let verify = TlsSpec {
            verify: true,
            ..TlsSpec::default()
        };
        assert!(matches!(verify.load(), Err(TlsError::NoAuthority)));
        let half = TlsSpec {
            certificate: Some("/cert.pem".into()),
            ..TlsSpec::default()
        };
        assert!(matches!(half.load(), Err(TlsError::Half("--tlskey"))));
        assert!(TlsSpec::default().load().is_ok());
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_else() {
        for host in ["build.example", "10.0.0.1", "::1"] {
            server_name(host).unwrap();
        }
        assert!(server_name("a b").is_err());
    }
}
