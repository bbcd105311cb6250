//! The progress of transfers: a stream of JSON objects, a line each (Docker Engine API, `CreateImageInfo` and
//! `PushImageInfo`).

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use engine::{ByteProgress, EngineError, ImageEvent, LayerState, TransferEvents};
use futures_util::stream;
use serde_json::{Value, json};

use crate::error::ApiError;

/// What happens in transfers.
pub(crate) trait Events: Send + 'static {
    /// What happens next; `None` at the end. After an error nothing does.
    fn next(&mut self) -> impl Future<Output = Option<Result<Vec<ImageEvent>, ApiError>>> + Send;
}

impl Events for TransferEvents {
    async fn next(&mut self) -> Option<Result<Vec<ImageEvent>, ApiError>> {
        match TransferEvents::next(self).await {
            Ok(events) => Some(Ok(events)),
            Err(Ok(())) => None,
            Err(Err(failure)) => Some(Err(EngineError::from(failure).into())),
        }
    }
}

/// Tells transfers as they go on. They are given up when the client goes, unless others follow them, too.
pub(crate) fn response(events: impl Events) -> Response {
    json_lines(Body::from_stream(stream::unfold(Some(events), async |events| {
        let mut events = events?;
        Some(match events.next().await? {
            Ok(told) => (piece(told.into_iter().flat_map(describe)), Some(events)),
            Err(error) => (piece([failure(error.message())]), None),
        })
    })))
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
            let mut told = json!({ "status": status, "progressDetail": progress });
            if !layer.is_empty() {
                told["id"] = layer.into();
            }
            vec![told]
        }
        ImageEvent::Pushed { tag, digest, size } => {
            let aux = json!({ "Tag": tag, "Digest": digest, "Size": size });
            vec![json!({ "progressDetail": {}, "aux": aux })]
        }
        ImageEvent::Loaded { id, names } if names.is_empty() => {
            vec![json!({ "stream": format!("Loaded image ID: {id}\n") })]
        }
        ImageEvent::Loaded { names, .. } => {
            let line = |name| json!({ "stream": format!("Loaded image: {name}\n") });
            names.iter().map(line).collect()
        }
        ImageEvent::Imported(id) => vec![json!({ "status": id })],
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
        LayerState::Loading(bytes) | LayerState::Loaded(bytes) => ("Loading layer".into(), moving(bytes)),
        LayerState::Importing(bytes) | LayerState::Imported(bytes) => ("Importing".into(), moving(bytes)),
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
            layer(LayerState::Loaded(ByteProgress { current: 2, total: 2 })),
            ImageEvent::Loaded {
                id: "sha256:00".into(),
                names: vec!["a:1".into(), "a:2".into()],
            },
            ImageEvent::Loaded {
                id: "sha256:00".into(),
                names: Vec::new(),
            },
            ImageEvent::Layer {
                layer: String::new(),
                state: LayerState::Importing(ByteProgress { current: 1, total: 0 }),
            },
            ImageEvent::Imported("sha256:00".into()),
        ];
        let objects: Vec<Value> = told.into_iter().flat_map(describe).collect();
        assert_eq!(
            Value::Array(objects),
            json!([
                {"status": "Pulling from library/a", "id": "latest"},
                {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "0123456789ab"},
                {"status": "Pull complete", "progressDetail": {}, "id": "0123456789ab"},
                {"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:00", "Size": 3}},
                {"status": "Loading layer", "progressDetail": {"current": 2, "total": 2}, "id": "0123456789ab"},
                {"stream": "Loaded image: a:1\n"},
                {"stream": "Loaded image: a:2\n"},
                {"stream": "Loaded image ID: sha256:00\n"},
                {"status": "Importing", "progressDetail": {"current": 1, "total": 0}},
                {"status": "sha256:00"},
            ])
        );
    }
}
