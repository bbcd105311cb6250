//! Removing the containers that do not run.

use axum::Json;
use axum::extract::State;
use engine::Engine;
use jiff::Timestamp;
use serde::Serialize;

use super::images::parse_until;
use crate::error::ApiError;
use crate::filters::label_matches;
use crate::query::Params;

/// What is answered; nothing removed is `null`, as with Docker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruned {
    containers_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// `POST /containers/prune`
pub(super) async fn prune(State(engine): State<Engine>, params: Params) -> Result<Json<Pruned>, ApiError> {
    let filters = params.filters()?.only(&["label", "label!", "until"])?;
    let until = parse_until(&filters, Timestamp::now())?;
    let (removed, reclaimed) = engine
        .prune_containers(|container| {
            let labels = &container.config.labels;
            let has = |wanted: &String| label_matches(wanted, |name| labels.get(name).map(String::as_str));
            filters.all("label", has)
                && filters.all("label!", |wanted| !has(wanted))
                && until.is_none_or(|until| container.created < until)
        })
        .await?;
    Ok(Json(Pruned {
        containers_deleted: (!removed.is_empty()).then_some(removed),
        space_reclaimed: reclaimed,
    }))
}
