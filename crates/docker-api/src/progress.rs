//! The progress of transfers: a stream of JSON objects, a line each (Docker Engine API, `CreateImageInfo` and
//! `PushImageInfo`).

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use engine::{ByteProgress, ImageEvent, LayerState, TransferEvents};
use futures_util::stream;
use serde_json::{Value, json};

use crate::error::ApiError;

/// Transfers that are told one behind the other.
pub(crate) trait Transfers: Send + 'static {
    /// What each ends with.
    type End: Clone + Send + 'static;

    /// The next transfer.
    fn next(&mut self) -> impl Future<Output = Option<Result<TransferEvents<Self::End>, ApiError>>> + Send;
}

/// A single transfer.
pub(crate) struct One<T>(Option<TransferEvents<T>>);

impl<T> One<T> {
    pub(crate) fn new(transfer: TransferEvents<T>) -> Self {
        Self(Some(transfer))
    }
}

impl<T: Clone + Send + 'static> Transfers for One<T> {
    type End = T;

    async fn next(&mut self) -> Option<Result<TransferEvents<T>, ApiError>> {
        self.0.take().map(Ok)
    }
}

/// Tells transfers as they go on. They are given up when the client goes, unless others follow them, too.
pub(crate) fn response<T: Transfers>(transfers: T) -> Response {
    let telling = Some((transfers, None));
    json_lines(Body::from_stream(stream::unfold(telling, async |telling| {
        let (mut transfers, mut current) = telling?;
        loop {
            let mut following: TransferEvents<T::End> = match current.take() {
                Some(following) => following,
                None => match transfers.next().await? {
                    Ok(following) => following,
                    Err(error) => return Some((piece([failure(error.message())]), None)),
                },
            };
            match following.next().await {
                Ok(events) => {
                    let told = piece(events.into_iter().flat_map(describe));
                    return Some((told, Some((transfers, Some(following)))));
                }
                Err(Ok(_)) => {}
                Err(Err(error)) => return Some((piece([failure(&error.message)]), None)),
            }
        }
    })))
}

/// Objects that are there already.
pub(crate) fn lines(objects: impl IntoIterator<Item = Value>) -> Response {
    json_lines(Body::from(text(objects)))
}

fn json_lines(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn piece(objects: impl IntoIterator<Item = Value>) -> Result<Bytes, Infallible> {
    Ok(text(objects).into())
}

fn text(objects: impl IntoIterator<Item = Value>) -> String {
    objects
        .into_iter()
        .map(|object| format!("{object}\r\n"))
        .collect()
}

fn failure(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

fn describe(event: ImageEvent) -> Vec<Value> {
    match event {
        ImageEvent::Line { about, text } if about.is_empty() => vec![json!({ "status": text })],
        ImageEvent::Line { about, text } => vec![json!({ "status": text, "id": about })],
        ImageEvent::Layer { layer, state } => {
            let (status, progress) = words(&state);
            vec![json!({ "status": status, "progressDetail": progress, "id": layer })]
        }
        ImageEvent::Pushed { tag, digest, size } => {
            let aux = json!({ "Tag": tag, "Digest": digest, "Size": size });
            vec![json!({ "progressDetail": {}, "aux": aux })]
        }
    }
}

/// Docker's words for how a layer stands, and how far it is.
fn words(state: &LayerState) -> (String, Value) {
    let moving = |bytes: &ByteProgress| json!({ "current": bytes.current, "total": bytes.total });
    match state {
        LayerState::PullingFsLayer => ("Pulling fs layer".into(), json!({})),
        LayerState::Waiting => ("Waiting".into(), json!({})),
        LayerState::Downloading(bytes) => ("Downloading".into(), moving(bytes)),
        LayerState::DownloadComplete => ("Download complete".into(), json!({})),
        LayerState::PullComplete => ("Pull complete".into(), json!({})),
        LayerState::AlreadyExists => ("Already exists".into(), json!({})),
        LayerState::Preparing => ("Preparing".into(), json!({})),
        LayerState::Pushing(bytes) => ("Pushing".into(), moving(bytes)),
        LayerState::Pushed => ("Pushed".into(), json!({})),
        LayerState::LayerAlreadyExists => ("Layer already exists".into(), json!({})),
        LayerState::MountedFrom(repository) => (format!("Mounted from {repository}"), json!({})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_what_dockers_client_shows() {
        let layer = |state| ImageEvent::Layer {
            layer: "0123456789ab".into(),
            state,
        };
        let told = [
            ImageEvent::Line {
                about: "latest".into(),
                text: "Pulling from library/a".into(),
            },
            layer(LayerState::Downloading(ByteProgress { current: 1, total: 2 })),
            layer(LayerState::PullComplete),
            ImageEvent::Pushed {
                tag: "1".into(),
                digest: "sha256:00".into(),
                size: 3,
            },
        ];
        let objects: Vec<Value> = told.into_iter().flat_map(describe).collect();
        assert_eq!(
            Value::Array(objects),
            json!([
                {"status": "Pulling from library/a", "id": "latest"},
                {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "0123456789ab"},
                {"status": "Pull complete", "progressDetail": {}, "id": "0123456789ab"},
                {"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:00", "Size": 3}},
            ])
        );
    }
}
