//! Who may come in over TCP: the options for it, and the TLS configuration that they make.
//!
//! Whoever reaches the API is root on this host. So a port is served to those who have a certificate of the operator's
//! CA, or, when two options say so, to everybody; there is nothing in between.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::config_file::ConfigFile;

/// The largest file of certificates that is read, in bytes: a whole bundle of CAs has a fifth of this.
const MAX_BYTES: u64 = 1 << 20;

/// Docker's options and keys for TLS, and one of hull's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct TlsOptions {
    /// Serve TCP with TLS; --tls=false only together with --insecure-tcp-without-tls [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls: Option<bool>,

    /// Serve TCP with TLS, to clients that show a certificate of the CA in --tlscacert
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tlsverify: Option<bool>,

    /// Certificates of the CAs whose clients are served, in PEM
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,

    /// Certificate of this server and its chain, in PEM
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,

    /// Key of this server's certificate, in PEM
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,

    /// Serve TCP without TLS, so that everybody who reaches the port is root on this host; only with --tls=false
    #[arg(long)]
    insecure_tcp_without_tls: bool,
}

/// What is asked of the clients of a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TcpPolicy {
    /// A certificate.
    Verified(TlsFiles),
    /// Nothing: the operator wants it so.
    Open,
    /// No port may be opened, for want of a word about it.
    Undecided,
}

/// The files of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    authorities: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Why TCP cannot be served like this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(
        "cannot listen on {0}: who reaches the API is root on this host. Give --tlsverify with --tlscacert, --tlscert \
         and --tlskey, so that only clients with a certificate are served; to serve everybody without TLS all the same, \
         give --tls=false and --insecure-tcp-without-tls"
    )]
    Undecided(String),
    #[error("--tlsverify needs {0}: the files are --tlscacert, --tlscert and --tlskey, in PEM")]
    Missing(&'static str),
    #[error("--tls without --tlsverify would serve everybody who reaches the port: give --tlsverify")]
    Unverified,
    #[error("--tlsverify and --tls=false contradict each other: leave one out")]
    Contradiction,
    #[error("--insecure-tcp-without-tls serves TCP without TLS only if --tls=false is given, too")]
    HalfOpen,
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is of no use: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    #[error("the certificate {} and the key {} cannot be served: {source}", certificate.display(), key.display())]
    Identity {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
}

impl TlsOptions {
    /// These, and where they are silent, what the file says.
    pub(crate) fn or(self, file: &ConfigFile) -> Self {
        Self {
            tls: self.tls.or(file.tls),
            tlsverify: self.tlsverify.or(file.tlsverify),
            tlscacert: self.tlscacert.or_else(|| file.tlscacert.clone()),
            tlscert: self.tlscert.or_else(|| file.tlscert.clone()),
            tlskey: self.tlskey.or_else(|| file.tlskey.clone()),
            insecure_tcp_without_tls: self.insecure_tcp_without_tls,
        }
    }

    /// What they say together.
    pub(crate) fn policy(self) -> Result<TcpPolicy, TlsError> {
        match (
            self.tlsverify == Some(true),
            self.tls,
            self.insecure_tcp_without_tls,
        ) {
            (true, Some(false), _) => Err(TlsError::Contradiction),
            (true, _, _) => Ok(TcpPolicy::Verified(TlsFiles {
                authorities: self.tlscacert.ok_or(TlsError::Missing("--tlscacert"))?,
                certificate: self.tlscert.ok_or(TlsError::Missing("--tlscert"))?,
                key: self.tlskey.ok_or(TlsError::Missing("--tlskey"))?,
            })),
            (false, Some(true), _) => Err(TlsError::Unverified),
            (false, Some(false), true) => Ok(TcpPolicy::Open),
            (false, None, true) => Err(TlsError::HalfOpen),
            (false, _, false) => Ok(TcpPolicy::Undecided),
        }
    }
}

impl TlsFiles {
    /// Reads the files.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.authorities)? {
            roots
                .add(authority)
                .map_err(|error| useless(&self.authorities, &error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error: VerifierBuilderError| useless(&self.authorities, &error))?;
        let identity = |source| TlsError::Identity {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(identity)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.certificate)?, key(&self.key)?)
            .map_err(identity)?;
        Ok(Arc::new(config))
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

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => useless(path, &"it has no private key in PEM"),
        error => useless(path, &error),
    })
}

fn useless(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(useless(path, &format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified() -> TlsOptions {
        TlsOptions {
            tlsverify: Some(true),
            tlscacert: Some("/ca".into()),
            tlscert: Some("/cert".into()),
            tlskey: Some("/key".into()),
            ..TlsOptions::default()
        }
    }

    #[test]
    fn clients_are_verified_or_let_in_with_two_options_and_nothing_in_between() {
        assert!(matches!(verified().policy(), Ok(TcpPolicy::Verified(_))));
        assert_eq!(TlsOptions::default().policy().unwrap(), TcpPolicy::Undecided);
        let open = |tls, insecure_tcp_without_tls| TlsOptions {
            tls,
            insecure_tcp_without_tls,
            ..TlsOptions::default()
        };
        assert_eq!(open(Some(false), true).policy().unwrap(), TcpPolicy::Open);
        assert_eq!(open(Some(false), false).policy().unwrap(), TcpPolicy::Undecided);
        assert!(matches!(open(None, true).policy(), Err(TlsError::HalfOpen)));
        assert!(matches!(
            open(Some(true), true).policy(),
            Err(TlsError::Unverified)
        ));
        let contradiction = TlsOptions {
            tls: Some(false),
            ..verified()
        };
        assert!(matches!(contradiction.policy(), Err(TlsError::Contradiction)));
    }

    #[test]
    fn a_file_that_is_not_named_is_asked_for_by_its_option() {
        let options = TlsOptions {
            tlskey: None,
            ..verified()
        };
        let error = options.policy().unwrap_err().to_string();
        assert!(error.starts_with("--tlsverify needs --tlskey"), "{error}");
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let command_line = TlsOptions {
            tlskey: Some("/mine".into()),
            ..TlsOptions::default()
        };
        let file = ConfigFile {
            tlsverify: Some(true),
            tlscert: Some("/cert".into()),
            tlskey: Some("/key".into()),
            ..ConfigFile::default()
        };
        let both = command_line.or(&file);
        assert_eq!(both.tlskey, Some("/mine".into()));
        assert_eq!((both.tlsverify, both.tlscert), (Some(true), Some("/cert".into())));
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_by_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files = TlsFiles {
            authorities: file.path().to_owned(),
            certificate: file.path().to_owned(),
            key: file.path().to_owned(),
        };
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("it has no certificate in PEM"), "{error}");
        std::fs::write(file.path(), vec![b'x'; MAX_BYTES as usize + 1]).unwrap();
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }
}
