//! What images and containers take on the disk.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use bollard_stubs::models::{ContainerSummary, ImageSummary};
use engine::{Engine, ListFilter};
use serde::Serialize;
use serde_json::Value;

use super::{images, list};
use crate::error::ApiError;

/// `GET /system/df`, in the shape that it has up to API 1.51.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DiskUsage {
    layers_size: u64,
    images: Vec<ImageSummary>,
    containers: Vec<ContainerSummary>,
    volumes: Vec<Value>,
    build_cache: Vec<Value>,
    builder_size: u64,
}

/// `GET /system/df`
pub(super) async fn disk_usage(State(engine): State<Engine>) -> Result<Json<DiskUsage>, ApiError> {
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
    let usage = engine.image_usage().await?;
    let images = usage.images.iter().map(|image| {
        let mut summary = images::summarize(&image.image);
        summary.shared_size = i64::try_from(image.shared_size).unwrap_or(i64::MAX);
        summary.containers = users.get(&summary.id).copied().unwrap_or_default();
        summary
    });
    Ok(Json(DiskUsage {
        layers_size: usage.layers_size,
        images: images.collect(),
        containers,
        volumes: Vec::new(),
        build_cache: Vec::new(),
        builder_size: 0,
    }))
}
