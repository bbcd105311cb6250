//! Removing images.

use axum::Json;
use axum::extract::State;
use bollard_stubs::models::ImageDeleteResponseItem;
use engine::{Engine, Removal, familiar};
use jiff::Timestamp;
use serde::Serialize;

use super::platform;
use super::until::{created, parse_until};
use crate::error::ApiError;
use crate::filters::{Filters, label_matches};
use crate::query::Params;

/// Filters of a prune that are understood.
const FILTERS: &[&str] = &["dangling", "label", "label!", "until"];

/// `DELETE /images/{name}`
///
/// `noprune` keeps untagged parents. No image has one here, as none has in Docker that was pulled or loaded: its layers are
/// its own, and those that other images have, too, stay with them in any case. So it changes nothing.
pub(super) async fn remove(
    engine: &Engine,
    name: &str,
    params: &Params,
) -> Result<Json<Vec<ImageDeleteResponseItem>>, ApiError> {
    let wanted = platform::all(params, "platforms")?;
    if let [first, further @ ..] = &wanted[..] {
        // An image is for one platform: it goes when that is among those that are to go.
        let mut found = engine.image_for(name, first).await;
        for platform in further {
            found = match found {
                Ok(image) => Ok(image),
                Err(_) => engine.image_for(name, platform).await,
            };
        }
        found?;
    }
    let removals = engine.remove_image(name, params.flag("force")).await?;
    Ok(Json(describe(removals)))
}

/// What `prune` answers; nothing removed is `null`, as with Docker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::routes) struct Pruned {
    images_deleted: Option<Vec<ImageDeleteResponseItem>>,
    space_reclaimed: u64,
}

/// `POST /images/prune`
pub(in crate::routes) async fn prune(
    State(engine): State<Engine>,
    params: Params,
) -> Result<Json<Pruned>, ApiError> {
    let filters = params.filters()?.only(FILTERS)?;
    let until = parse_until(&filters, Timestamp::now())?;
    let dangling_only = only_dangling(&filters)?;
    let pruned = engine
        .prune_images(move |image| {
            let has =
                |wanted: &String| label_matches(wanted, |name| image.labels.get(name).map(String::as_str));
            let made = created(image.created.as_deref()).unwrap_or(Timestamp::UNIX_EPOCH);
            (!dangling_only || image.is_dangling())
                && filters.all("label", has)
                && filters.all("label!", |wanted| !has(wanted))
                && until.is_none_or(|until| made < until)
        })
        .await?;
    let removed = describe(pruned.removals);
    Ok(Json(Pruned {
        images_deleted: (!removed.is_empty()).then_some(removed),
        space_reclaimed: pruned.reclaimed,
    }))
}

/// Whether only images without a name go; so it is unless all unused ones are asked for.
fn only_dangling(filters: &Filters) -> Result<bool, ApiError> {
    match filters.values("dangling") {
        [] => Ok(true),
        [value] => match value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(ApiError::bad_request(format!(
                "invalid filter 'dangling={value}'"
            ))),
        },
        _ => Err(ApiError::bad_request(
            "invalid filter 'dangling': more than one value",
        )),
    }
}

fn describe(removals: Vec<Removal>) -> Vec<ImageDeleteResponseItem> {
    let item = |removal| match removal {
        Removal::Untagged(name) => ImageDeleteResponseItem {
            untagged: Some(familiar(&name).to_owned()),
            deleted: None,
        },
        Removal::Deleted(id) => ImageDeleteResponseItem {
            untagged: None,
            deleted: Some(id),
        },
    };
    removals.into_iter().map(item).collect()
}
