//! TLS to a daemon: whom we trust, and who we are.

use std::path::PathBuf;
use std::sync::Arc;

use ::endpoint::{Anybody, PemError, pem};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
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
    #[error(transparent)]
    Pem(#[from] PemError),
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
            builder.with_root_certificates(pem::authorities(path)?)
        } else {
            let anybody = Anybody::new(provider);
            builder.dangerous().with_custom_certificate_verifier(anybody)
        };
        let config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(pem::certificates(certificate)?, pem::private_key(key)?)
                .map_err(|error| PemError::content(certificate, &error))?,
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
