//! Registries: logging in, searching, looking at manifests.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard_stubs::models::{
    AuthResponse, DistributionInspect, ImageSearchResponseItem, OciDescriptor, OciPlatform,
};
use engine::{Engine, PlatformName, RegistryManifest, SearchRequest};
use serde::Serialize;
use serde_json::value::RawValue;

use super::registry_auth::{AuthConfig, credentials};
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::query::Params;

/// Results of a search when no number is given, and at most.
const SEARCH_DEFAULT: u16 = 25;
const SEARCH_MAX: u16 = 100;

/// `POST /auth`
pub(in crate::routes) async fn log_in(
    State(engine): State<Engine>,
    JsonBody(config): JsonBody<AuthConfig>,
) -> Result<Json<AuthResponse>, ApiError> {
    let server = config.server_address.clone();
    let status = engine.log_in(&server, config.credentials()).await?;
    Ok(Json(AuthResponse {
        status: "Login Succeeded".into(),
        identity_token: Some(status.identity_token.unwrap_or_default()),
    }))
}

/// `GET /images/search`
pub(in crate::routes) async fn search(
    State(engine): State<Engine>,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<Vec<ImageSearchResponseItem>>, ApiError> {
    let filters = params
        .filters()?
        .only(&["is-automated", "is-official", "stars"])?;
    let term = params.text("term").unwrap_or_default().to_owned();
    let limit = params.number("limit")?.filter(|limit| *limit != 0);
    let limit = limit.unwrap_or(SEARCH_DEFAULT);
    if !(1..=SEARCH_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!(
            "limit {limit} is outside the range of [1, {SEARCH_MAX}]"
        )));
    }
    let stars = filters.values("stars").iter().map(|stars| {
        let number = stars.parse::<u64>();
        number.map_err(|_| ApiError::bad_request(format!("invalid filter 'stars={stars}'")))
    });
    let stars = stars
        .collect::<Result<Vec<u64>, _>>()?
        .into_iter()
        .max()
        .unwrap_or_default();
    let request = SearchRequest {
        term,
        limit,
        credentials: credentials(&headers),
    };
    let mut found = engine.search(request).await?;
    found.retain(|image| {
        image.stars >= stars
            && filters.any("is-official", |value| image.official == (value == "true"))
            // Nothing is any more.
            && filters.any("is-automated", |value| value == "false")
    });
    let describe = |image: engine::SearchResult| ImageSearchResponseItem {
        description: Some(image.description),
        is_official: Some(image.official),
        is_automated: Some(false),
        name: Some(image.name),
        star_count: i64::try_from(image.stars).ok(),
    };
    Ok(Json(found.into_iter().map(describe).collect()))
}

/// `GET /distribution/{name}/json`
pub(in crate::routes) async fn distribution(
    State(engine): State<Engine>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Json<DistributionInspect>, ApiError> {
    let name = path.strip_suffix("/json").ok_or_else(ApiError::page_not_found)?;
    let (manifest, _) = engine.remote_manifest(name, credentials(&headers), false).await?;
    Ok(Json(DistributionInspect {
        descriptor: descriptor(&manifest),
        platforms: manifest.platforms.iter().map(describe_platform).collect(),
    }))
}

fn describe_platform(platform: &PlatformName) -> OciPlatform {
    OciPlatform {
        os: Some(platform.os.clone()),
        architecture: Some(platform.architecture.clone()),
        variant: Some(platform.variant.clone()).filter(|variant| !variant.is_empty()),
        ..OciPlatform::default()
    }
}

/// `GET /hull/manifest`: a manifest in a registry as it came, or with `verbose` all that is known of it, in the words of
/// `docker manifest inspect`.
pub(in crate::routes) async fn manifest(
    State(engine): State<Engine>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let name = params.text("name").unwrap_or_default();
    let verbose = params.flag("verbose");
    let (manifest, parts) = engine
        .remote_manifest(name, credentials(&headers), verbose)
        .await?;
    if !verbose {
        let json = HeaderValue::from_static("application/json");
        return Ok(([(CONTENT_TYPE, json)], manifest.bytes).into_response());
    }
    if parts.is_empty() {
        return Ok(Json(describe(&manifest)?).into_response());
    }
    let parts = parts.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(parts).into_response())
}

/// What `docker manifest inspect --verbose` tells of one manifest, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verbose {
    #[serde(rename = "Ref")]
    name: String,
    descriptor: OciDescriptor,
    raw: String,
    #[serde(rename = "SchemaV2Manifest", skip_serializing_if = "Option::is_none")]
    docker: Option<Box<RawValue>>,
    #[serde(rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci: Option<Box<RawValue>>,
}

fn describe(manifest: &RegistryManifest) -> Result<Verbose, ApiError> {
    let content: Box<RawValue> = serde_json::from_slice(&manifest.bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "the manifest {} is not understood: {error}",
            manifest.name
        ))
    })?;
    let platform = match &manifest.platforms[..] {
        [platform] => Some(describe_platform(platform)),
        _ => None,
    };
    let (docker, oci) = match manifest.media_type.contains("docker") {
        true => (Some(content), None),
        false => (None, Some(content)),
    };
    Ok(Verbose {
        name: manifest.name.clone(),
        descriptor: OciDescriptor {
            platform,
            ..descriptor(manifest)
        },
        raw: BASE64_STANDARD.encode(&manifest.bytes),
        docker,
        oci,
    })
}

fn descriptor(manifest: &RegistryManifest) -> OciDescriptor {
    OciDescriptor {
        media_type: Some(manifest.media_type.clone()),
        digest: Some(manifest.digest.clone()),
        size: i64::try_from(manifest.bytes.len()).ok(),
        ..OciDescriptor::default()
    }
}
