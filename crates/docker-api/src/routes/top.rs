//! The processes of a container.

use axum::Json;
use axum::extract::{Path, State};
use engine::Engine;
use serde::Serialize;

use crate::error::ApiError;
use crate::ps::Format;
use crate::query::Params;

/// What is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Top {
    processes: Vec<Vec<String>>,
    titles: Vec<String>,
}

/// `GET /containers/{name}/top`
pub(super) async fn top(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Top>, ApiError> {
    let format = Format::parse(params.text("ps_args").unwrap_or("-ef"))?;
    let list = engine.processes(&name).await?;
    Ok(Json(Top {
        processes: list
            .processes
            .iter()
            .map(|process| format.row(&list, process))
            .collect(),
        titles: format.titles(),
    }))
}
