//! Reading a blob while checking that it is the one that was asked for.

use crate::digest::{Digest, Hasher};
use std::io::{self, Read, Write};

/// What a descriptor promises about a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobId {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
}

/// What a blob is called and has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedBlob {
    /// For messages: its digest, or where it stands in an archive.
    pub(crate) name: String,
    /// In bytes; `None` where nobody says it.
    pub(crate) size: Option<u64>,
    /// `None` where nobody says it.
    pub(crate) digest: Option<Digest>,
}

impl From<BlobId> for ExpectedBlob {
    fn from(id: BlobId) -> Self {
        Self {
            name: id.digest.to_string(),
            size: Some(id.size),
            digest: Some(id.digest),
        }
    }
}

/// Why a blob is not what its descriptor promises.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Its content has another digest.
    #[error("blob {expected} is damaged: its content has the digest {actual}")]
    Digest {
        /// The digest in the descriptor.
        expected: Digest,
        /// The digest of the content.
        actual: Digest,
    },
    /// Its content has another length.
    #[error("blob {blob} has {} bytes, but its descriptor says {expected}", at_least(*.actual, *.expected))]
    Size {
        /// The blob.
        blob: String,
        /// Bytes that the descriptor says.
        expected: u64,
        /// Bytes that were found; reading stops after the first surplus one.
        actual: u64,
    },
    /// It could not be read.
    #[error("cannot read blob {blob}: {source}")]
    Read {
        /// The blob.
        blob: String,
        /// What the source said.
        source: io::Error,
    },
    /// The copy that is kept could not be written.
    #[error("cannot write a copy of blob {blob}: {source}")]
    Copy {
        /// The blob.
        blob: String,
        /// What the system said.
        source: io::Error,
    },
}

fn at_least(actual: u64, expected: u64) -> String {
    if actual > expected {
        format!("more than {expected}")
    } else {
        actual.to_string()
    }
}

/// Passes a blob on while hashing it and writing a copy. What it yields is not to be trusted before
/// [`VerifyingReader::finish`] has returned.
pub(crate) struct VerifyingReader<R, W> {
    input: R,
    copy: W,
    expected: ExpectedBlob,
    hasher: Hasher,
    read: u64,
    failure: Option<BlobError>,
}

impl<R: Read, W: Write> VerifyingReader<R, W> {
    pub(crate) fn new(input: R, copy: W, expected: impl Into<ExpectedBlob>) -> Self {
        Self {
            input,
            copy,
            expected: expected.into(),
            hasher: Hasher::default(),
            read: 0,
            failure: None,
        }
    }

    /// Reads what is left and checks size and digest; hands the copy back, and tells what the blob is.
    pub(crate) fn finish(mut self) -> Result<(W, BlobId), BlobError> {
        let mut buffer = vec![0; 64 * 1024];
        while self.failure.is_none() && self.pass_on(&mut buffer) > 0 {}
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if let Some(expected) = self.expected.size.filter(|size| *size != self.read) {
            return Err(BlobError::Size {
                blob: self.expected.name,
                expected,
                actual: self.read,
            });
        }
        let actual = self.hasher.finish();
        match self.expected.digest {
            Some(expected) if expected != actual => Err(BlobError::Digest { expected, actual }),
            _ => Ok((
                self.copy,
                BlobId {
                    digest: actual,
                    size: self.read,
                },
            )),
        }
    }

    /// Why the blob is not the one that was asked for, if that can be told by reading at most `limit` more bytes
    /// of it.
    pub(crate) fn damage(mut self, limit: u64) -> Option<BlobError> {
        let mut buffer = vec![0; 64 * 1024];
        let end = self.read.saturating_add(limit);
        while self.failure.is_none() && self.pass_on(&mut buffer) > 0 {
            if self.read > end {
                return None;
            }
        }
        self.finish().err()
    }

    /// One read; 0 at the end or after a failure, which is kept.
    fn pass_on(&mut self, into: &mut [u8]) -> usize {
        let blob = || self.expected.name.clone();
        let count = loop {
            match self.input.read(into) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    self.failure = Some(BlobError::Read { blob: blob(), source });
                    return 0;
                }
            }
        };
        self.read += count as u64;
        if let Some(expected) = self.expected.size.filter(|size| *size < self.read) {
            self.failure = Some(BlobError::Size {
                blob: blob(),
                expected,
                actual: self.read,
            });
            return 0;
        }
        self.hasher.update(&into[..count]);
        if let Err(source) = self.copy.write_all(&into[..count]) {
            self.failure = Some(BlobError::Copy { blob: blob(), source });
            return 0;
        }
        count
    }
}

impl<R: Read, W: Write> Read for VerifyingReader<R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let count = self.pass_on(into);
        match &self.failure {
            // The reason itself is what `finish` returns; this only stops the consumer.
            Some(failure) => Err(io::Error::other(failure.to_string())),
            None => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(content: &[u8]) -> BlobId {
        BlobId {
            digest: Digest::of(content),
            size: content.len() as u64,
        }
    }

    #[test]
    fn the_right_content_passes_and_is_copied_also_when_nobody_reads_it() {
        let content = vec![7; 200_000];
        let mut reader = VerifyingReader::new(content.as_slice(), Vec::new(), id(&content));
        reader.read_exact(&mut [0; 100]).unwrap();
        let id = id(&content);
        assert_eq!(reader.finish().unwrap(), (content, id));
    }

    #[test]
    fn other_content_is_told_from_shorter_and_longer_content() {
        let check = |content: &[u8]| VerifyingReader::new(content, io::sink(), id(b"right")).finish();
        assert!(matches!(check(b"wrong"), Err(BlobError::Digest { .. })));
        assert!(matches!(
            check(b"r"),
            Err(BlobError::Size {
                expected: 5,
                actual: 1,
                ..
            })
        ));
        let Err(longer) = check(b"right and more") else {
            panic!("surplus bytes were accepted");
        };
        assert!(longer.to_string().contains("has more than 5 bytes"), "{longer}");
    }

    #[test]
    fn a_surplus_byte_stops_the_consumer() {
        let mut reader = VerifyingReader::new(&b"right and more"[..], io::sink(), id(b"right"));
        assert!(io::copy(&mut reader, &mut io::sink()).is_err());
    }
}
