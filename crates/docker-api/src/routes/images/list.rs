//! The list of images, and its filters.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use bollard_stubs::models::ImageSummary as Summary;
use engine::{Engine, ImageSummary, familiar};
use jiff::Timestamp;

use super::split_tag;
use super::until::{created, parse_until};
use crate::error::ApiError;
use crate::filters::{Filters, label_matches};
use crate::query::Params;

/// Filters of the list that are understood.
const FILTERS: &[&str] = &[
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
];

/// `GET /images/json`
pub(in crate::routes) async fn list(
    State(engine): State<Engine>,
    params: Params,
) -> Result<Json<Vec<Summary>>, ApiError> {
    let filters = params.filters()?.only(FILTERS)?;
    let selection = Selection::read(&engine, &filters).await?;
    let mut shared = HashMap::new();
    if params.flag("shared-size") {
        let usage = engine.image_usage().await?;
        shared.extend(
            usage
                .images
                .into_iter()
                .map(|image| (image.image.id, image.shared_size)),
        );
    }
    let images = engine.images().await?;
    let listed = images
        .iter()
        .filter(|image| selection.matches(image))
        .map(|image| {
            let mut summary = summarize(image);
            // What only filters named are shown by that name alone.
            summary.repo_tags.retain(|tag| selection.names(tag));
            if let Some(size) = shared.get(&image.id) {
                summary.shared_size = i64::try_from(*size).unwrap_or(i64::MAX);
            }
            summary
        });
    Ok(Json(listed.collect()))
}

/// Which images are meant.
pub(super) struct Selection<'a> {
    filters: &'a Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> Selection<'a> {
    /// Looks up what the filters name.
    pub(super) async fn read(engine: &Engine, filters: &'a Filters) -> Result<Self, ApiError> {
        let moment = async |name: &str| match filters.values(name).first() {
            Some(image) => Ok::<_, ApiError>(created(engine.image(image).await?.created.as_deref())),
            None => Ok(None),
        };
        for value in filters.values("dangling") {
            if !matches!(value.as_str(), "true" | "1" | "false" | "0") {
                return Err(ApiError::bad_request(format!(
                    "invalid filter 'dangling={value}'"
                )));
            }
        }
        Ok(Self {
            filters,
            before: moment("before").await?,
            since: moment("since").await?,
            until: parse_until(filters, Timestamp::now())?,
        })
    }

    pub(super) fn matches(&self, image: &ImageSummary) -> bool {
        let has = |wanted: &String| label_matches(wanted, |name| image.labels.get(name).map(String::as_str));
        let created = created(image.created.as_deref()).unwrap_or(Timestamp::UNIX_EPOCH);
        self.filters.all("label", has)
            && self.filters.all("label!", |wanted| !has(wanted))
            && self.filters.any("dangling", |value| {
                image.is_dangling() == matches!(value.as_str(), "true" | "1")
            })
            && self.filters.any("reference", |pattern| {
                let mut names = image.references.iter().chain(&image.digests);
                names.any(|name| reference_matches(familiar(name), pattern))
            })
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created < until)
    }

    /// Whether a name of an image that matches is one that was asked for.
    fn names(&self, name: &str) -> bool {
        self.filters
            .any("reference", |pattern| reference_matches(name, pattern))
    }
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

/// What is told of an image in a list.
pub(in crate::routes) fn summarize(image: &ImageSummary) -> Summary {
    let shown = |names: &[String]| names.iter().map(|name| familiar(name).to_owned()).collect();
    Summary {
        id: image.id.clone(),
        parent_id: String::new(),
        repo_tags: shown(&image.references),
        repo_digests: shown(&image.digests),
        created: created(image.created.as_deref()).map_or(0, Timestamp::as_second),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        shared_size: -1,
        labels: image.labels.clone().into_iter().collect(),
        containers: -1,
        manifests: None,
        descriptor: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
