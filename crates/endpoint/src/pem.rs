//! Certificates and keys in PEM files.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The largest file that is read, in bytes: a whole bundle of CAs has a fifth of this.
const MAX_BYTES: u64 = 1 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// The disk.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("{} is of no use: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl PemError {
    /// A file of no use.
    pub fn content(path: &Path, reason: &dyn Display) -> Self {
        Self::Content {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// All certificates in a file.
///
/// # Errors
/// The file cannot be read, is larger than 1 MiB, or has none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(path)?;
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(PemError::content(path, &"it has no certificate in PEM")),
        all => all.map_err(|error| no_pem(path, &error)),
    }
}

/// The CAs in a file.
///
/// # Errors
/// Those of [`certificates`], or one of them cannot be a CA's.
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots
            .add(authority)
            .map_err(|error| PemError::content(path, &error))?;
    }
    Ok(roots)
}

/// The private key in a file.
///
/// # Errors
/// The file cannot be read, is larger than 1 MiB, or has none.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    private_key_in(path, &read(path)?)
}

/// The private key in the text of a file.
///
/// # Errors
/// It has none.
pub fn private_key_in(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => PemError::content(path, &"it has no private key in PEM"),
        error => no_pem(path, &error),
    })
}

/// The text of a file.
///
/// # Errors
/// It cannot be read, or is larger than 1 MiB.
pub fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let failed = |source| PemError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        let reason = format!("it has more than {MAX_BYTES} bytes");
        return Err(PemError::content(path, &reason));
    }
    Ok(text)
}

fn no_pem(path: &Path, error: &pem::Error) -> PemError {
    PemError::content(path, &format!("it is no PEM file ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn what_a_file_holds_is_read_and_the_rest_left() {
        let both = file(format!("notes\n{CERTIFICATE}{KEY}{CERTIFICATE}"));
        assert_eq!(certificates(both.path()).unwrap().len(), 2);
        assert_eq!(private_key(both.path()).unwrap().secret_der(), [0, 0, 0]);
        assert!(
            authorities(both.path()).is_err(),
            "three bytes are no certificate"
        );
    }

    #[test]
    fn a_file_that_holds_nothing_of_use_is_refused_by_its_name() {
        for (content, reason) in [
            (Vec::new(), "it has no certificate in PEM"),
            (KEY.into(), "it has no certificate in PEM"),
            (b"-----BEGIN CERTIFICATE-----\n?\n".to_vec(), "it is no PEM file"),
            (vec![b'x'; 1 + (1 << 20)], "it has more than 1048576 bytes"),
        ] {
            let file = file(content);
            let error = certificates(file.path()).unwrap_err().to_string();
            let expected = format!("{} is of no use: {reason}", file.path().display());
            assert!(error.starts_with(&expected), "{error}");
        }
        let error = private_key(file(CERTIFICATE).path()).unwrap_err().to_string();
        assert!(error.ends_with("it has no private key in PEM"), "{error}");
        let error = certificates(Path::new("/nonexistent.pem"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("cannot read /nonexistent.pem: "), "{error}");
    }
}
