//! A request as it is meant: sent once, or again after a failure.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use crate::config::Timeouts;
use crate::error::{RegistryError, Result};
use crate::token::Scope;
use crate::upload::Upload;

/// What goes along with a request.
pub(crate) enum Payload<'a> {
    Nothing,
    Bytes(Bytes),
    /// These bytes of it.
    Upload(&'a Upload<'a>, Range<u64>),
}

/// A request.
pub(crate) struct Call<'a> {
    /// For messages: `pull manifest latest of localhost:5000/app`.
    pub(crate) what: String,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) scope: Scope,
    /// Refusals that the caller understands.
    pub(crate) expected: Vec<StatusCode>,
    payload: Payload<'a>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(what: &str, method: Method, url: Url) -> Self {
        Self {
            what: what.to_string(),
            method,
            url,
            headers: HeaderMap::new(),
            scope: Scope::none(),
            expected: Vec::new(),
            payload: Payload::Nothing,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(crate) fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    pub(crate) fn expecting(mut self, statuses: &[StatusCode]) -> Self {
        self.expected.extend_from_slice(statuses);
        self
    }

    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// A payload goes where it was meant to go, or nowhere.
    pub(crate) fn may_be_redirected(&self) -> bool {
        matches!(self.payload, Payload::Nothing) && matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Puts the payload into a request and says how long to wait for its answer.
    pub(crate) fn fill(&self, request: &mut reqwest::Request, timeouts: &Timeouts) -> Result<Patience> {
        match &self.payload {
            Payload::Nothing if matches!(self.method, Method::GET | Method::HEAD) => {}
            Payload::Nothing => {
                request
                    .headers_mut()
                    .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            Payload::Bytes(bytes) => *request.body_mut() = Some(bytes.clone().into()),
            Payload::Upload(upload, range) => {
                let body = upload
                    .start(range.clone())
                    .map_err(|source| RegistryError::Source {
                        what: self.what.clone(),
                        source,
                    })?;
                request.headers_mut().insert(CONTENT_LENGTH, body.length.into());
                *request.body_mut() = Some(body.body);
                return Ok(Patience::Upload {
                    progress: body.progress,
                    stall: timeouts.stall,
                    commit: timeouts.commit,
                });
            }
        }
        Ok(Patience::Answer(timeouts.answer))
    }

    /// What went wrong with reading the payload, if that is why the request failed.
    pub(crate) fn source_error(&self) -> Option<RegistryError> {
        let Payload::Upload(upload, _) = &self.payload else {
            return None;
        };
        let source = upload.take_error()?;
        Some(RegistryError::Source {
            what: self.what.clone(),
            source,
        })
    }
}

/// How far an upload is.
#[derive(Default)]
pub(crate) struct Progress {
    /// Changes with every piece; `true` once all has been handed to the connection.
    pub(crate) complete: tokio::sync::watch::Sender<bool>,
}

/// How long to wait for the head of an answer.
pub(crate) enum Patience {
    /// So long.
    Answer(Duration),
    /// While an upload moves, and then until the registry has taken it.
    Upload {
        progress: Arc<Progress>,
        stall: Duration,
        commit: Duration,
    },
}

impl Patience {
    /// The outcome of `request`.
    ///
    /// # Errors
    /// What did not come, and how long.
    pub(crate) async fn bound<F: Future>(
        self,
        request: F,
    ) -> std::result::Result<F::Output, (&'static str, Duration)> {
        tokio::select! {
            outcome = request => Ok(outcome),
            exhausted = self.exhausted() => Err(exhausted),
        }
    }

    async fn exhausted(self) -> (&'static str, Duration) {
        let (progress, stall, commit) = match self {
            Self::Answer(wait) => {
                tokio::time::sleep(wait).await;
                return ("no answer", wait);
            }
            Self::Upload {
                progress,
                stall,
                commit,
            } => (progress, stall, commit),
        };
        let mut moved = progress.complete.subscribe();
        loop {
            let complete = *moved.borrow_and_update();
            let (missing, wait) = if complete {
                ("no word on a finished upload", commit)
            } else {
                ("no way on for an upload", stall)
            };
            // The sender lives in `progress`, so that a change is the only way for this to end early.
            if tokio::time::timeout(wait, moved.changed()).await.is_err() {
                return (missing, wait);
            }
        }
    }
}
