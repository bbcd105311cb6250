//! What images, containers and volumes take on the disk.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use bollard_stubs::models::{ContainerSummary, ImageSummary};
use engine::{Engine, ListFilter, Usage};
use serde::Serialize;
use serde_json::Value;

use super::{build_cache, images, list, volumes};
use crate::error::ApiError;
use crate::query::Params;

/// What there is to be told of (`type`).
const TYPES: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// `GET /system/df`, in the shape that it has up to API 1.51. What was not asked for is `null`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DiskUsage {
    layers_size: u64,
    images: Option<Vec<ImageSummary>>,
    containers: Option<Vec<ContainerSummary>>,
    volumes: Option<Vec<volumes::Described>>,
    build_cache: Option<Vec<Value>>,
    builder_size: u64,
}

/// `GET /system/df`
pub(super) async fn disk_usage(
    State(engine): State<Engine>,
    params: Params,
) -> Result<Json<DiskUsage>, ApiError> {
    let types = params.texts("type");
    if let Some(unknown) = types.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(ApiError::bad_request(format!("unknown object type: {unknown}")));
    }
    let is_wanted = |kind: &str| types.is_empty() || types.iter().any(|wanted| wanted == kind);
    let filter = ListFilter {
        all: true,
        ..ListFilter::default()
    };
    let all = engine.list(&filter).await?;
    let mut users: HashMap<String, i64> = HashMap::new();
    let mut sizes = HashMap::new();
    for container in &all {
        *users.entry(container.image_id.clone()).or_default() += 1;
        // One that is removed meanwhile takes nothing.
        if let Ok(size) = engine.container_size(&container.id).await {
            sizes.insert(container.id.clone(), i64::try_from(size).unwrap_or(i64::MAX));
        }
    }
    let mut containers = list::summarize_all(&engine, all).await?;
    for container in &mut containers {
        container.size_rw = container.id.as_ref().and_then(|id| sizes.get(id).copied());
    }
    let usage = match is_wanted("image") {
        true => engine.image_usage().await?,
        false => Usage::default(),
    };
    let volumes = match is_wanted("volume") {
        true => Some(volumes::usage(&engine).await?),
        false => None,
    };
    let cache = match is_wanted("build-cache") {
        true => Some(build_cache::usage(&engine).await?),
        false => None,
    };
    let images = usage.images.iter().map(|image| {
        let mut summary = images::summarize(&image.image);
        summary.shared_size = i64::try_from(image.shared_size).unwrap_or(i64::MAX);
        summary.containers = users.get(&summary.id).copied().unwrap_or_default();
        summary
    });
    Ok(Json(DiskUsage {
        layers_size: usage.layers_size,
        images: is_wanted("image").then(|| images.collect()),
        containers: is_wanted("container").then_some(containers),
        volumes,
        build_cache: cache.as_ref().map(|(records, _)| records.clone()),
        builder_size: cache.map_or(0, |(_, size)| size),
    }))
}
