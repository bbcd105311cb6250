//! One image: what it is, how it came to be, and giving it names.

use std::collections::{BTreeSet, HashMap};

use axum::Json;
use axum::http::StatusCode;
use bollard_stubs::models::{
    DriverData, HealthConfig, ImageConfig, ImageHistoryResponseItem, ImageInspect, ImageInspectMetadata,
    ImageInspectRootFs, OciDescriptor,
};
use engine::{Engine, HistoryEntry, Image, ImageHealthCheck, familiar};
use jiff::Timestamp;

use super::platform;
use super::until::created;
use crate::error::ApiError;
use crate::query::Params;

/// How Go writes a time that nobody knows.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// `GET /images/{name}/json`
pub(super) async fn inspect(
    engine: &Engine,
    name: &str,
    params: &Params,
) -> Result<Json<ImageInspect>, ApiError> {
    let image = match platform::one(params)? {
        Some(platform) => engine.image_for(name, &platform).await?,
        None => engine.image(name).await?,
    };
    let (media_type, size) = engine.image_manifest(&image).await?;
    let tagged = engine.image_last_tagged(&image).await?;
    let tagged = tagged.and_then(|time| Timestamp::try_from(time).ok());
    let mut described = describe(&image);
    described.config = Some(describe_config(engine.image_config(&image).await?));
    described.metadata = Some(ImageInspectMetadata {
        last_tag_time: Some(tagged.map_or_else(|| NO_TIME.to_owned(), |time| time.to_string())),
    });
    described.descriptor = Some(OciDescriptor {
        media_type: Some(media_type),
        digest: Some(image.manifest_digest),
        size: i64::try_from(size).ok(),
        ..OciDescriptor::default()
    });
    Ok(Json(described))
}

/// `GET /images/{name}/history`
pub(super) async fn history(
    engine: &Engine,
    name: &str,
    params: &Params,
) -> Result<Json<Vec<ImageHistoryResponseItem>>, ApiError> {
    if let Some(platform) = platform::one(params)? {
        engine.image_for(name, &platform).await?;
    }
    let steps = engine.image_history(name).await?;
    Ok(Json(steps.into_iter().map(describe_step).collect()))
}

/// `POST /images/{name}/tag`
pub(super) async fn tag(engine: &Engine, name: &str, params: &Params) -> Result<StatusCode, ApiError> {
    let Some(target) = params.image_name() else {
        return Err(ApiError::bad_request(
            "invalid reference format: no repository was named",
        ));
    };
    engine.tag_image(name, &target).await?;
    Ok(StatusCode::CREATED)
}

fn describe_step(step: HistoryEntry) -> ImageHistoryResponseItem {
    ImageHistoryResponseItem {
        id: step.id,
        created: created(step.created.as_deref()).map_or(0, Timestamp::as_second),
        created_by: step.created_by,
        tags: step
            .references
            .iter()
            .map(|name| familiar(name).to_owned())
            .collect(),
        size: i64::try_from(step.size).unwrap_or(i64::MAX),
        comment: step.comment,
    }
}

fn describe(image: &Image) -> ImageInspect {
    let config = &image.config;
    let shown = |names: &[String]| names.iter().map(|name| familiar(name).to_owned()).collect();
    let comment = config
        .history()
        .iter()
        .flatten()
        .next_back()
        .and_then(|step| step.comment().clone());
    ImageInspect {
        id: Some(image.id.clone()),
        repo_tags: Some(shown(&image.references)),
        repo_digests: Some(shown(&image.digests)),
        comment: Some(comment.unwrap_or_default()),
        created: image.created.clone(),
        author: Some(config.author().clone().unwrap_or_default()),
        architecture: Some(config.architecture().to_string()),
        variant: config.variant().clone(),
        os: Some(config.os().to_string()),
        os_version: config.os_version().clone(),
        size: Some(i64::try_from(image.size).unwrap_or(i64::MAX)),
        graph_driver: Some(DriverData {
            name: "erofs".into(),
            data: HashMap::new(),
        }),
        root_fs: Some(ImageInspectRootFs {
            typ: config.rootfs().typ().to_owned(),
            layers: Some(config.rootfs().diff_ids().clone()),
        }),
        ..ImageInspect::default()
    }
}

fn describe_config(config: engine::ImageConfig) -> ImageConfig {
    let keys = |names: BTreeSet<String>| Some(Vec::from_iter(names)).filter(|names| !names.is_empty());
    let list = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    ImageConfig {
        user: Some(config.user),
        exposed_ports: keys(config.exposed_ports),
        env: list(config.env),
        cmd: config.command,
        healthcheck: config.health_check.map(describe_health_check),
        volumes: keys(config.volumes),
        working_dir: Some(config.working_dir),
        entrypoint: config.entrypoint,
        on_build: list(config.on_build),
        shell: list(config.shell),
        labels: Some(HashMap::from_iter(config.labels)).filter(|labels| !labels.is_empty()),
        stop_signal: Some(config.stop_signal).filter(|signal| !signal.is_empty()),
        ..ImageConfig::default()
    }
}

fn describe_health_check(check: ImageHealthCheck) -> HealthConfig {
    let set = |number: i64| Some(number).filter(|&number| number != 0);
    HealthConfig {
        test: Some(check.test),
        interval: set(check.interval),
        timeout: set(check.timeout),
        retries: set(check.retries),
        start_period: set(check.start_period),
        start_interval: set(check.start_interval),
    }
}
