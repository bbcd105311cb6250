//! Images as archives.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use engine::{ArchiveOutput, Engine, shown_url};
use futures_util::stream;

use super::fed::Fed;
use super::{import_config, platform};
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
    save_names(&engine, names.to_vec(), &params).await
}

/// One archive of these images.
pub(super) async fn save_names(
    engine: &Engine,
    names: Vec<String>,
    params: &Params,
) -> Result<Response, ApiError> {
    if let Some(platform) = platform::one(params)? {
        for name in &names {
            engine.image_for(name, &platform).await?;
        }
    }
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
pub(in crate::routes) async fn load(
    State(engine): State<Engine>,
    params: Params,
    body: Body,
) -> Result<Response, ApiError> {
    let (input, transfer) = engine.load_images(platform::one(&params)?.as_deref())?;
    let quiet = params.flag_or("quiet", true);
    Ok(progress::response(
        Fed::begin(body, input, transfer, quiet).await?,
    ))
}

/// `POST /images/create` with `fromSrc`: makes an image of the body, or of what a web server has.
pub(super) async fn import(engine: &Engine, params: &Params, body: Body) -> Result<Response, ApiError> {
    let Some(source) = params.text("fromSrc") else {
        return Err(ApiError::bad_request("neither fromImage nor fromSrc was given"));
    };
    if source == "-" {
        let (input, transfer) = engine.import_image(import_config::read(params, source)?)?;
        return Ok(progress::response(
            Fed::begin(body, input, transfer, false).await?,
        ));
    }
    let url = match source.contains("://") {
        true => source.to_owned(),
        false => format!("http://{source}"),
    };
    let request = import_config::read(params, &shown_url(&url))?;
    let transfer = engine.import_image_from(request, &url).await?;
    Ok(progress::response(transfer))
}
