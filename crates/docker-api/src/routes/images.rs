//! Images in the store.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bollard_stubs::models::{ImageConfig, ImageInspect, ImageInspectRootFs, ImageSummary};
use engine::{Engine, Image};
use jiff::Timestamp;

use crate::error::ApiError;
use crate::filters::{Filters, label_matches};
use crate::query::Params;

/// `GET /images/json`
pub(super) async fn list(
    State(engine): State<Engine>,
    params: Params,
) -> Result<Json<Vec<ImageSummary>>, ApiError> {
    let filters = params.filters()?.only(&["dangling", "label", "reference"])?;
    let mut images = engine.images().await?;
    images.retain(|image| matches(image, &filters));
    let mut summaries: Vec<ImageSummary> = images.iter().map(summarize).collect();
    summaries.sort_by_key(|summary| std::cmp::Reverse(summary.created));
    Ok(Json(summaries))
}

/// `GET /images/{name}/json`; a name may hold slashes.
pub(super) async fn inspect(
    State(engine): State<Engine>,
    Path(path): Path<String>,
) -> Result<Json<ImageInspect>, ApiError> {
    let name = path.strip_suffix("/json").ok_or_else(ApiError::page_not_found)?;
    Ok(Json(describe(&engine.image(name).await?)))
}

/// `POST /images/create`: what a client tries when an image is not in the store.
pub(super) async fn create(Path(path): Path<String>, params: Params) -> ApiError {
    if path != "create" {
        return ApiError::page_not_found();
    }
    let image = familiar(params.text("fromImage").unwrap_or_default());
    let separator = if params.text("tag").is_some_and(|tag| tag.starts_with("sha256:")) {
        "@"
    } else {
        ":"
    };
    let tag = params
        .text("tag")
        .map(|tag| format!("{separator}{tag}"))
        .unwrap_or_default();
    let message = format!("No such image: {image}{tag}, and hull does not support pulling images yet");
    ApiError::new(StatusCode::NOT_IMPLEMENTED, message)
}

fn matches(image: &Image, filters: &Filters) -> bool {
    let labels = labels(image);
    filters.all("label", |wanted| {
        label_matches(wanted, |name| labels.get(name).map(String::as_str))
    }) && filters.any("dangling", |value| {
        image.references.is_empty() == matches!(value.as_str(), "true" | "1")
    }) && filters.any("reference", |pattern| {
        image
            .references
            .iter()
            .any(|reference| reference_matches(familiar(reference), pattern))
    })
}

/// Whether a reference is what a pattern says: a name, a name with a tag, or either with `*` for any text without a
/// slash.
fn reference_matches(reference: &str, pattern: &str) -> bool {
    let repository = split_tag(reference).0;
    wildcard_matches(reference.as_bytes(), pattern.as_bytes())
        || wildcard_matches(repository.as_bytes(), pattern.as_bytes())
}

/// Matches `*` in time that is linear in both lengths times the other: one place to go back to is enough.
fn wildcard_matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((t, p));
                p += 1;
            }
            Some(&byte) if byte == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match star {
                Some((from, at)) if text[from] != b'/' => {
                    star = Some((from + 1, at));
                    t = from + 1;
                    p = at + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// A reference as people write it: without the registry and the namespace that are meant when none are named.
fn familiar(reference: &str) -> &str {
    let reference = reference.strip_prefix("docker.io/").unwrap_or(reference);
    reference.strip_prefix("library/").unwrap_or(reference)
}

/// The repository and the tag of a reference. A colon before a slash belongs to a port.
fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, ""),
    }
}

fn labels(image: &Image) -> HashMap<String, String> {
    let labels = image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.labels().clone());
    labels.unwrap_or_default()
}

fn tags(image: &Image) -> Vec<String> {
    image
        .references
        .iter()
        .map(|reference| familiar(reference).to_owned())
        .collect()
}

fn digests(image: &Image) -> Vec<String> {
    let mut digests: Vec<String> = image
        .references
        .iter()
        .map(|reference| format!("{}@{}", split_tag(familiar(reference)).0, image.manifest_digest))
        .collect();
    digests.dedup();
    digests
}

fn size(image: &Image) -> i64 {
    i64::try_from(image.size).unwrap_or(i64::MAX)
}

fn summarize(image: &Image) -> ImageSummary {
    let created = image
        .created
        .as_deref()
        .and_then(|created| created.parse::<Timestamp>().ok());
    ImageSummary {
        id: image.id.clone(),
        parent_id: String::new(),
        repo_tags: tags(image),
        repo_digests: digests(image),
        created: created.map_or(0, Timestamp::as_second),
        size: size(image),
        shared_size: -1,
        labels: labels(image),
        containers: -1,
        manifests: None,
        descriptor: None,
    }
}

fn describe(image: &Image) -> ImageInspect {
    let config = &image.config;
    ImageInspect {
        id: Some(image.id.clone()),
        repo_tags: Some(tags(image)),
        repo_digests: Some(digests(image)),
        created: image.created.clone(),
        author: Some(config.author().clone().unwrap_or_default()),
        architecture: Some(config.architecture().to_string()),
        variant: config.variant().clone(),
        os: Some(config.os().to_string()),
        os_version: config.os_version().clone(),
        size: Some(size(image)),
        root_fs: Some(ImageInspectRootFs {
            typ: config.rootfs().typ().to_owned(),
            layers: Some(config.rootfs().diff_ids().clone()),
        }),
        config: config.config().as_ref().map(describe_config),
        ..ImageInspect::default()
    }
}

fn describe_config(config: &oci_spec::image::Config) -> ImageConfig {
    ImageConfig {
        user: Some(config.user().clone().unwrap_or_default()),
        exposed_ports: config.exposed_ports().clone(),
        env: config.env().clone(),
        cmd: config.cmd().clone(),
        volumes: config.volumes().clone(),
        working_dir: Some(config.working_dir().clone().unwrap_or_default()),
        entrypoint: config.entrypoint().clone(),
        labels: config.labels().clone(),
        stop_signal: config.stop_signal().clone(),
        ..ImageConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_registry_and_namespace_are_not_shown() {
        assert_eq!(familiar("docker.io/library/alpine:3"), "alpine:3");
        assert_eq!(familiar("docker.io/me/app:1"), "me/app:1");
        assert_eq!(familiar("localhost/busybox:latest"), "localhost/busybox:latest");
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("localhost:5000/app"), ("localhost:5000/app", ""));
        assert_eq!(split_tag("localhost:5000/app:1"), ("localhost:5000/app", "1"));
    }

    #[test]
    fn reference_patterns_match_within_a_path_component() {
        let reference = "localhost/busybox:latest";
        for pattern in [
            "localhost/busybox",
            "localhost/busybox:latest",
            "localhost/b*x",
            "*/busybox",
            "*/*:l*t",
        ] {
            assert!(reference_matches(reference, pattern), "{pattern}");
        }
        for pattern in [
            "busybox",
            "*busybox",
            "localhost/busybox:1",
            "localhost",
            "",
            "localhost/b*y",
        ] {
            assert!(!reference_matches(reference, pattern), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_no_exponential_time() {
        let text = "a".repeat(4000);
        let pattern = "a*".repeat(500) + "b";
        assert!(!wildcard_matches(text.as_bytes(), pattern.as_bytes()));
    }
}
