//! The end of work that nobody waits for any more.
//!
//! A future ends when it is dropped; a thread that blocks has to look. It does so between files, and between blocks of what it reads.

use std::io::{self, Read};

use tokio_util::sync::CancellationToken;

/// Nobody waits for the work any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for it any more")]
pub struct Cancelled;

/// Fails once a token is cancelled.
pub(crate) fn check(token: &CancellationToken) -> Result<(), Cancelled> {
    match token.is_cancelled() {
        true => Err(Cancelled),
        false => Ok(()),
    }
}

/// A reader that fails once a token is cancelled.
#[derive(Debug)]
pub struct Cancellable<R> {
    reader: R,
    token: CancellationToken,
}

impl<R> Cancellable<R> {
    /// Reads `reader` until then.
    pub fn new(reader: R, token: &CancellationToken) -> Self {
        let token = token.clone();
        Self { reader, token }
    }
}

impl<R: Read> Read for Cancellable<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        check(&self.token).map_err(io::Error::other)?;
        self.reader.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_fails_once_its_token_is_cancelled() {
        let token = CancellationToken::new();
        let mut reader = Cancellable::new(io::repeat(1), &token);
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 4);
        token.cancel();
        assert_eq!(
            reader.read(&mut [0; 4]).unwrap_err().to_string(),
            Cancelled.to_string()
        );
    }
}
