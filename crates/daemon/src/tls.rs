//! Who may come in over TCP: the options for it, and the TLS configuration that they make.
//!
//! Whoever reaches the API is root on this host. So a port is served to those who have a certificate of the operator's
//! CA, or, when two options say so, to everybody; there is nothing in between.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use endpoint::{PemError, pem};
use rustls::ServerConfig;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio::sync::watch;

use crate::config_file::ConfigFile;

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
    #[error(transparent)]
    Pem(#[from] PemError),
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
        let roots = Arc::new(pem::authorities(&self.authorities)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error: VerifierBuilderError| PemError::content(&self.authorities, &error))?;
        let identity = |source| TlsError::Identity {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(identity)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                pem::certificates(&self.certificate)?,
                pem::private_key(&self.key)?,
            )
            .map_err(identity)?;
        Ok(Arc::new(config))
    }
}

/// The TLS that is served, and the files that it comes from.
pub(crate) struct ServedTls {
    files: TlsFiles,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl ServedTls {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            config: watch::Sender::new(files.load()?),
            files: files.clone(),
        })
    }

    /// What a port serves, now and when it is another one.
    pub(crate) fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Reads the files again, for clients that are yet to come; files that are broken change nothing.
    pub(crate) fn renew(&self) {
        match self.files.load() {
            Ok(config) => {
                self.config.send_replace(config);
                tracing::info!(
                    "SIGHUP: new connections are served with {}",
                    self.files.certificate.display()
                );
            }
            Err(error) => tracing::error!("SIGHUP: the TLS certificates stay as they were: {error}"),
        }
    }
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
        std::fs::write(file.path(), vec![b'x'; (1 << 20) + 1]).unwrap();
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }
}
