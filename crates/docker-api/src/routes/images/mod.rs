//! Images: those in the store, and the way to and from registries.

mod archives;
mod fed;
mod import_config;
mod inspect;
mod list;
pub(super) mod platform;
mod registries;
mod registry_auth;
mod remove;
mod transfers;
mod until;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use engine::Engine;

use crate::error::ApiError;
use crate::query::Params;

pub(super) use archives::{load, save};
pub(super) use list::{list, summarize};
pub(super) use registries::{distribution, log_in, manifest, search};
pub(super) use registry_auth::{AuthConfig, BASE64};
pub(super) use remove::prune;
pub(super) use transfers::create;
pub(crate) use until::parse_until;

/// `GET /images/{name}/...`; a name may hold slashes.
pub(super) async fn read(
    State(engine): State<Engine>,
    Path(path): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    match path.rsplit_once('/') {
        Some((name, "json")) => Ok(inspect::inspect(&engine, name, &params).await?.into_response()),
        Some((name, "history")) => Ok(inspect::history(&engine, name, &params).await?.into_response()),
        Some((name, "get")) => archives::save_names(&engine, vec![name.to_owned()], &params).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// `POST /images/{name}/...`
pub(super) async fn change(
    State(engine): State<Engine>,
    Path(path): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match path.rsplit_once('/') {
        Some((name, "tag")) => Ok(inspect::tag(&engine, name, &params).await?.into_response()),
        Some((name, "push")) => transfers::push(&engine, name, &params, &headers).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// `DELETE /images/{name}`
pub(super) async fn remove(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    Ok(remove::remove(&engine, &name, &params).await?.into_response())
}

/// The repository and the tag of a reference. A colon before a slash belongs to a port.
fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("localhost:5000/app"), ("localhost:5000/app", ""));
        assert_eq!(split_tag("localhost:5000/app:1"), ("localhost:5000/app", "1"));
    }
}
