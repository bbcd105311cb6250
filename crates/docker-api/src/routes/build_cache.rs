//! The build cache: what it takes, what is removed of it, and what of it leaves this machine.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use engine::{ArchiveOutput, CacheMode, CacheRecord, CacheTarget, Engine};
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::images::parse_until;
use crate::error::ApiError;
use crate::query::Params;

/// Where the cache of a build goes, as the query parameter `cacheto` has it: a list of such.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum CacheTo {
    /// To a registry.
    Registry {
        #[serde(rename = "ref")]
        name: String,
        #[serde(default)]
        mode: String,
        #[serde(default, rename = "ignore-error")]
        ignore_error: bool,
    },
    /// Into the image.
    Inline {},
}

/// The registries that a cache is pushed to, and whether the image is to carry it.
pub(super) fn targets(all: Vec<CacheTo>) -> Result<(Vec<CacheTarget>, bool), ApiError> {
    let (mut targets, mut is_inline) = (Vec::new(), false);
    for target in all {
        match target {
            CacheTo::Inline {} => is_inline = true,
            CacheTo::Registry {
                name,
                mode: text,
                ignore_error,
            } => targets.push(CacheTarget {
                name,
                mode: mode(&text)?,
                ignore_error,
            }),
        }
    }
    Ok((targets, is_inline))
}

fn mode(text: &str) -> Result<CacheMode, ApiError> {
    match text {
        "" => Ok(CacheMode::default()),
        text => text
            .parse()
            .map_err(|error| ApiError::bad_request(format!("{error}"))),
    }
}

/// `GET /hull/images/{name}/cache`: the cache of the build that made an image, as the archive of an OCI image layout.
pub(super) async fn cache(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let mode = mode(params.text("mode").unwrap_or_default())?;
    let archive = engine.image_cache(&name, mode).await?;
    let pieces = stream::unfold(archive, async |mut archive: ArchiveOutput| {
        Some((archive.next().await?, archive))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let tar = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(CONTENT_TYPE, tar);
    Ok(response)
}

/// Docker's answer to a prune.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruned {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// `POST /build/prune`: everything with `all`, else what no build has used for the longest time: entries that are older than
/// `until`, and of the newer ones what is over `keep-storage`.
pub(super) async fn prune(State(engine): State<Engine>, params: Params) -> Result<Json<Pruned>, ApiError> {
    let filters = params.filters()?.only(&["id", "until", "label", "label!"])?;
    let now = Timestamp::now();
    let before = parse_until(&filters, now)?;
    // What is asked for by a label is no part of a cache without any.
    let is_labelled = ["label", "label!"]
        .iter()
        .any(|name| !filters.values(name).is_empty());
    let ids = filters.values("id").to_vec();
    let all = params.flag("all");
    let keep: u64 = params
        .number("keep-storage")?
        .or(params.number("reserved-space")?)
        .unwrap_or_default();
    let usage = engine.build_cache().await?;
    let over = usage.over(keep);
    let select = move |record: &CacheRecord| {
        let used = Timestamp::try_from(record.used).unwrap_or(now);
        !is_labelled
            && (ids.is_empty() || ids.contains(&record.id))
            && before.is_none_or(|before| used < before)
            && (keep == 0 || over.contains(&record.id) || record.entry.image.is_none())
    };
    let pruned = engine.prune_build_cache(all && !is_labelled, select).await?;
    Ok(Json(Pruned {
        caches_deleted: (!pruned.entries.is_empty()).then_some(pruned.entries),
        space_reclaimed: pruned.reclaimed,
    }))
}

/// What the cache takes, as `/system/df` tells it.
pub(super) async fn usage(engine: &Engine) -> Result<(Vec<Value>, u64), ApiError> {
    let usage = engine.build_cache().await?;
    let time = |time| {
        Timestamp::try_from(time)
            .map(|time: Timestamp| time.to_string())
            .unwrap_or_default()
    };
    let mut records: Vec<Value> = usage
        .entries
        .iter()
        .map(|record| {
            json!({
                "ID": record.id,
                "Type": "regular",
                "Description": record.entry.description,
                "InUse": false,
                "Shared": false,
                "Size": record.entry.size,
                "CreatedAt": record.entry.created,
                "LastUsedAt": time(record.used),
                "UsageCount": 1,
            })
        })
        .collect();
    let others = [
        (
            "mounts",
            "exec.cachemount",
            "folders of RUN --mount=type=cache",
            usage.mounts,
        ),
        (
            "contents",
            "source.local",
            "large files of build contexts",
            usage.contents,
        ),
    ];
    for (id, kind, description, size) in others.into_iter().filter(|(.., size)| *size > 0) {
        records.push(json!({
            "ID": id,
            "Type": kind,
            "Description": description,
            "InUse": false,
            "Shared": false,
            "Size": size,
            "CreatedAt": time(std::time::SystemTime::UNIX_EPOCH),
            "UsageCount": 1,
        }));
    }
    let size = usage.entries.iter().map(|record| record.entry.size).sum::<u64>();
    let others = usage.mounts.saturating_add(usage.contents);
    Ok((records, size.saturating_add(others)))
}
