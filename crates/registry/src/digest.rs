//! Digests: computing them over a stream, and comparing.

use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::config::ConfigError;

/// Bytes that do not have the digest that named them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} was asked for, the bytes are {actual}")]
pub struct DigestMismatch {
    /// The digest by which the bytes were asked for.
    pub expected: Digest,
    /// What they are.
    pub actual: String,
}

enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

/// Bytes on their way, measured against the digest that they must have.
pub(crate) struct Verifier {
    expected: Digest,
    hasher: Hasher,
}

impl Verifier {
    pub(crate) fn new(expected: &Digest) -> Result<Self, ConfigError> {
        let hasher = match expected.algorithm() {
            DigestAlgorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            DigestAlgorithm::Sha384 => Hasher::Sha384(Sha384::new()),
            DigestAlgorithm::Sha512 => Hasher::Sha512(Sha512::new()),
            _ => return Err(ConfigError::Digest(expected.clone())),
        };
        Ok(Self {
            expected: expected.clone(),
            hasher,
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha384(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Result<(), DigestMismatch> {
        let hex = match self.hasher {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Sha384(hasher) => hex(&hasher.finalize()),
            Hasher::Sha512(hasher) => hex(&hasher.finalize()),
        };
        if hex == self.expected.digest() {
            return Ok(());
        }
        let actual = format!("{}:{hex}", self.expected.algorithm());
        Err(DigestMismatch {
            expected: self.expected,
            actual,
        })
    }
}

/// The SHA-256 digest of `bytes`, as registries name them.
pub fn sha256(bytes: &[u8]) -> Digest {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
        .parse()
        .expect("64 hexadecimal digits are a digest")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn bytes_are_measured_against_each_algorithm() {
        let sha512 = Sha512::digest(b"abc");
        let digest: Digest = format!("sha512:{}", hex(&sha512)).parse().unwrap();
        let mut verifier = Verifier::new(&digest).unwrap();
        verifier.update(b"a");
        verifier.update(b"bc");
        assert_eq!(verifier.finish(), Ok(()));
        assert_eq!(sha256(b"").to_string(), EMPTY);
        let mut verifier = Verifier::new(&EMPTY.parse().unwrap()).unwrap();
        verifier.update(b"x");
        let message = verifier.finish().unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("{EMPTY} was asked for, the bytes are sha256:2d71")),
            "{message}"
        );
    }

    #[test]
    fn an_algorithm_that_cannot_be_verified_is_refused() {
        let digest: Digest = "blake3:00ff".parse().unwrap();
        assert!(Verifier::new(&digest).is_err());
    }
}
