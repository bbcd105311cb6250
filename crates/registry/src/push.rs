//! A blob on its way to a registry, across cuts (distribution specification, "Pushing a blob in chunks").

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use crate::answer::Answer;
use crate::blob::BlobDescriptor;
use crate::call::{Call, Payload};
use crate::error::{RegistryError, Result};
use crate::session::{Session, text};
use crate::token::Scope;
use crate::upload::Upload;

/// Bytes of a piece, which a registry confirms one by one.
const PIECE: u64 = 16 << 20;
/// The least that a registry wants a piece to have.
const MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// A blob that is sent: as a whole at first, which every registry understands. Once that was cut, the registry is asked
/// what it has of it, and gets the rest in pieces, so that the next cut costs one of them at most. A registry that keeps
/// nothing of what was cut, or does not take pieces, gets the whole again.
pub(crate) struct BlobPush<'a> {
    session: &'a Session,
    what: &'a str,
    repository: &'a str,
    blob: &'a BlobDescriptor,
    upload: Upload<'a>,
    /// What the registry has begun to take.
    begun: Option<Begun>,
    manner: Manner,
}

/// How a blob is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// In one piece, with the end of the upload.
    Whole,
    /// In pieces that the registry confirms.
    Pieces,
    /// In one piece, because the registry has refused others.
    OnlyWhole,
}

/// An upload at the registry.
struct Begun {
    /// Where it goes on; each answer may name another place.
    location: Url,
    /// Bytes that the registry has.
    received: u64,
    /// Bytes of a piece.
    piece: u64,
}

impl<'a> BlobPush<'a> {
    pub(crate) fn new(
        session: &'a Session,
        what: &'a str,
        repository: &'a str,
        blob: &'a BlobDescriptor,
        upload: Upload<'a>,
    ) -> Self {
        Self {
            session,
            what,
            repository,
            blob,
            upload,
            begun: None,
            manner: Manner::Whole,
        }
    }

    /// Sends the blob. Failures count from the last time that the registry had more of it than ever before.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut retries = self.session.retries();
        let mut furthest = 0;
        loop {
            let error = match self.advance().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let received = self.begun.as_ref().map_or(0, |begun| begun.received);
            if received > furthest {
                furthest = received;
                retries.progress();
            }
            if self.manner == Manner::Pieces && is_refusal(&error) {
                tracing::debug!(%error, "the registry takes no pieces");
                (self.manner, self.begun) = (Manner::OnlyWhole, None);
                continue;
            }
            let (pause, error) = retries.pause_after(error)?;
            tracing::debug!(%error, ?pause, received, "an upload was cut");
            tokio::time::sleep(pause).await;
            if self.manner == Manner::Whole {
                self.manner = Manner::Pieces;
            }
        }
    }

    /// One try, which ends with the upload or with a failure; what the registry has is in `begun` then.
    async fn advance(&mut self) -> Result<()> {
        if self.manner == Manner::Pieces {
            self.ask().await?;
        } else {
            self.begun = None;
        }
        let mut begun = match self.begun.take() {
            Some(begun) => begun,
            None => self.begin().await?,
        };
        let sent = self.send(&mut begun).await;
        self.begun = Some(begun);
        sent
    }

    /// Asks what the registry has of an upload that was cut. It is forgotten if the registry does not know it, or has
    /// nothing of it: `0-0` is what it says of no byte, too.
    async fn ask(&mut self) -> Result<()> {
        let Some(begun) = &mut self.begun else {
            return Ok(());
        };
        let call =
            Call::new(self.what, Method::GET, begun.location.clone()).scope(Scope::push(self.repository));
        let known = match self.session.call_once(&call).await {
            Ok(answer) => {
                begun.follow(self.session, self.what, &answer)?;
                received(answer.headers()).filter(|bytes| (2..=self.blob.size).contains(bytes))
            }
            Err(error) if is_refusal(&error) => {
                tracing::debug!(%error, "an upload that was cut is gone");
                None
            }
            Err(error) => return Err(error),
        };
        match known {
            Some(bytes) => begun.received = bytes,
            None => self.begun = None,
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Begun> {
        let url = self.session.url(&format!("{}/blobs/uploads/", self.repository));
        let call = Call::new(self.what, Method::POST, url).scope(Scope::push(self.repository));
        let answer = self.session.call_once(&call).await?;
        let least = text(answer.headers(), MIN_LENGTH.as_str()).and_then(|length| length.parse().ok());
        let location = answer.headers().get(LOCATION);
        Ok(Begun {
            location: self.session.resolve(self.what, answer.url(), location)?,
            received: 0,
            piece: PIECE.max(least.unwrap_or(0)),
        })
    }

    /// Sends what the registry has not, and ends the upload.
    async fn send(&self, begun: &mut Begun) -> Result<()> {
        if self.manner == Manner::Pieces {
            while begun.received < self.blob.size {
                self.send_piece(begun).await?;
            }
        }
        let mut location = begun.location.clone();
        location
            .query_pairs_mut()
            .append_pair("digest", self.blob.digest.as_ref());
        let call = Call::new(self.what, Method::PUT, location)
            .header(CONTENT_TYPE, octets())
            .scope(Scope::push(self.repository))
            .payload(Payload::Upload(&self.upload, begun.received..self.blob.size));
        self.session.call_once(&call).await.map(|_| ())
    }

    async fn send_piece(&self, begun: &mut Begun) -> Result<()> {
        let start = begun.received;
        let end = self.blob.size.min(start.saturating_add(begun.piece));
        let range = HeaderValue::try_from(format!("{start}-{}", end - 1))
            .map_err(|_| self.session.protocol(self.what, "a range is no header"))?;
        let call = Call::new(self.what, Method::PATCH, begun.location.clone())
            .header(CONTENT_TYPE, octets())
            .header(CONTENT_RANGE, range)
            .scope(Scope::push(self.repository))
            .payload(Payload::Upload(&self.upload, start..end));
        let answer = self.session.call_once(&call).await?;
        begun.follow(self.session, self.what, &answer)?;
        let received = received(answer.headers()).unwrap_or(end);
        if received <= start || received > end {
            let reason = format!("bytes {start} to {end} were sent, it says that it has {received}");
            return Err(self.session.protocol(self.what, reason));
        }
        begun.received = received;
        Ok(())
    }
}

impl Begun {
    /// Goes on where an answer says, if it says so.
    fn follow(&mut self, session: &Session, what: &str, answer: &Answer) -> Result<()> {
        if let Some(location) = answer.headers().get(LOCATION) {
            self.location = session.resolve(what, answer.url(), Some(location))?;
        }
        Ok(())
    }
}

/// How many bytes a registry has: `Range: 0-LAST`, without a unit. Some write one.
fn received(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, RANGE.as_str())?;
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}

/// Whether the registry has understood a request and does not do it: the upload is gone, or pieces are not for it.
fn is_refusal(error: &RegistryError) -> bool {
    match error {
        RegistryError::NotFound { .. } | RegistryError::Protocol { .. } => true,
        RegistryError::Status { status, .. } => {
            (400..=501).contains(status) && *status != StatusCode::PAYLOAD_TOO_LARGE.as_u16()
        }
        _ => false,
    }
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_is_read_from_its_range() {
        for (range, expected) in [
            ("0-0", Some(1)),
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("1-99", None),
            ("0-", None),
            ("0--1", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            let headers = [(RANGE, HeaderValue::from_static(range))].into_iter().collect();
            assert_eq!(received(&headers), expected, "{range}");
        }
    }
}
