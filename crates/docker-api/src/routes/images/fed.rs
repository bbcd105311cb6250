//! A transfer that is fed with the body of its request, and told while it is.

use std::time::Duration;

use axum::body::Body;
use engine::{ArchiveInput, ImageEvent, TransferEvents};
use futures_util::StreamExt;
use tokio::task::JoinSet;

use crate::error::ApiError;
use crate::progress::Events;

/// How long a client may be silent that sends what nobody wants any more.
const UNWANTED_SILENCE: Duration = Duration::from_secs(2);

/// Its events. A client may send all of the body before it reads any of them, so the body is read by a task of its own,
/// which ends when this is dropped.
pub(super) struct Fed {
    feeding: JoinSet<Result<(), ApiError>>,
    transfer: TransferEvents,
    /// What was waited for before there was a response.
    first: Option<Vec<ImageEvent>>,
    quiet: bool,
}

impl Fed {
    /// Begins to feed, and waits for the first event: what goes wrong before has a status. One that is `quiet` tells nothing
    /// of layers.
    pub(super) async fn begin(
        body: Body,
        input: ArchiveInput,
        transfer: TransferEvents,
        quiet: bool,
    ) -> Result<Self, ApiError> {
        let mut feeding = JoinSet::new();
        feeding.spawn(feed(body, input));
        let mut fed = Self {
            feeding,
            transfer,
            first: None,
            quiet,
        };
        fed.first = fed.next().await.transpose()?;
        Ok(fed)
    }

    fn is_told(&self, event: &ImageEvent) -> bool {
        !(self.quiet && matches!(event, ImageEvent::Layer { .. }))
    }
}

impl Events for Fed {
    async fn next(&mut self) -> Option<Result<Vec<ImageEvent>, ApiError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            match Events::next(&mut self.transfer).await {
                Some(Ok(mut events)) => {
                    events.retain(|event| self.is_told(event));
                    if !events.is_empty() {
                        return Some(Ok(events));
                    }
                }
                end => {
                    // A client that still sends would not see the end.
                    return match self.feeding.join_next().await {
                        Some(Ok(Err(cut))) => Some(Err(cut)),
                        _ => end,
                    };
                }
            }
        }
    }
}

/// Writes a body into the engine. What the engine does not want any more is read and forgotten, as long as it comes.
async fn feed(body: Body, input: ArchiveInput) -> Result<(), ApiError> {
    let mut pieces = body.into_data_stream();
    let mut wanted = true;
    loop {
        let piece = if wanted {
            tokio::select! {
                piece = pieces.next() => piece,
                () = input.unwanted() => {
                    wanted = false;
                    continue;
                }
            }
        } else {
            match tokio::time::timeout(UNWANTED_SILENCE, pieces.next()).await {
                Ok(piece) => piece,
                Err(_) => return Ok(()),
            }
        };
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| ApiError::bad_request(format!("the archive is cut: {error}")))?;
        if wanted {
            wanted = input.write(piece).await;
        }
    }
    input.finish().await;
    Ok(())
}
