//! Changing a container.

use axum::Json;
use axum::extract::{Path, State};
use engine::Engine;
use serde::Serialize;
use serde_json::Value;

use crate::body::JsonBody;
use crate::create;
use crate::error::ApiError;

/// What is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Updated {
    /// There is nothing that is done only half; `null` as Docker has it.
    warnings: Option<Vec<String>>,
}

/// `POST /containers/{name}/update`
pub(super) async fn update(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<Value>,
) -> Result<Json<Updated>, ApiError> {
    engine.update(&name, create::read_update(body)?).await?;
    Ok(Json(Updated { warnings: None }))
}
