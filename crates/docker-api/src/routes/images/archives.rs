//! Images as archives.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use engine::{ArchiveInput, ArchiveOutput, Engine, ImportRequest, TransferEvents};
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::import_config;
use crate::error::ApiError;
use crate::progress;
use crate::query::Params;

/// `GET /images/get`
pub(in crate::routes) async fn save(
    State(engine): State<Engine>,
    params: Params,
) -> Result<Response, ApiError> {
    let names = params.texts("names");
    if names.is_empty() {
        return Err(ApiError::bad_request("no image was named: give names=IMAGE"));
    }
    save_names(&engine, names.to_vec()).await
}

/// One archive of these images.
pub(super) async fn save_names(engine: &Engine, names: Vec<String>) -> Result<Response, ApiError> {
    let archive = engine.save_images(names).await?;
    let pieces = stream::unfold(archive, async |mut archive: ArchiveOutput| {
        let piece = archive.next().await?;
        Some((piece, archive))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let tar = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(CONTENT_TYPE, tar);
    Ok(response)
}

/// `POST /images/load`
pub(in crate::routes) async fn load(State(engine): State<Engine>, body: Body) -> Result<Response, ApiError> {
    let (input, transfer) = engine.load_images();
    let loaded = feed(body, input, transfer).await?;
    let mut lines = Vec::new();
    for image in loaded {
        if image.names.is_empty() {
            lines.push(format!("Loaded image ID: {}\n", image.id));
        }
        lines.extend(image.names.iter().map(|name| format!("Loaded image: {name}\n")));
    }
    Ok(progress::lines(
        lines.into_iter().map(|line| json!({ "stream": line })),
    ))
}

/// `POST /images/create` with `fromSrc`: makes an image of the body.
pub(super) async fn import(engine: &Engine, params: &Params, body: Body) -> Result<Response, ApiError> {
    match params.text("fromSrc") {
        Some("-") => {}
        Some(url) => {
            return Err(ApiError::bad_request(format!(
                "hull does not import from {url}: download it, and import the file"
            )));
        }
        None => return Err(ApiError::bad_request("neither fromImage nor fromSrc was given")),
    }
    let name = params.text("repo").map(|repository| match params.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    let config = import_config::read(params)?;
    let (input, transfer) = engine.import_image(ImportRequest { name, config })?;
    let id = feed(body, input, transfer).await?;
    Ok(progress::lines([json!({ "status": id })]))
}

/// Writes the body of a request into the engine; what became of it. A client that goes away ends it.
async fn feed<T: Clone + Send + 'static>(
    body: Body,
    input: ArchiveInput,
    mut transfer: TransferEvents<T>,
) -> Result<T, ApiError> {
    let mut pieces = body.into_data_stream();
    let mut wanted = true;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| ApiError::bad_request(format!("the archive is cut: {error}")))?;
        // The rest is read and forgotten: a client that still sends would not see the answer.
        if wanted {
            wanted = input.write(piece).await;
        }
    }
    input.finish().await;
    loop {
        if let Err(end) = transfer.next().await {
            return end.map_err(|failure| ApiError::from(engine::EngineError::from(failure)));
        }
    }
}
