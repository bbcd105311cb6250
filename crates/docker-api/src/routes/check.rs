//! hull's own: whether the image store is whole.

use axum::Json;
use axum::extract::State;
use engine::{CheckReport, DamagedObject, Engine, Problem};
use serde_json::{Value, json};

use crate::error::ApiError;

/// `POST /hull/system/check`: reads everything in the image store, and takes out what is damaged.
pub(super) async fn check(State(engine): State<Engine>) -> Result<Json<Value>, ApiError> {
    Ok(Json(describe(&engine.check_images().await?)))
}

fn describe(report: &CheckReport) -> Value {
    let problems: Vec<Value> = report.problems.iter().map(describe_problem).collect();
    json!({
        "Images": report.images,
        "Blobs": report.blobs,
        "Layers": report.layers,
        "Bytes": report.bytes,
        "Problems": problems,
    })
}

fn describe_problem(problem: &Problem) -> Value {
    let object = match &problem.object {
        DamagedObject::Blob(digest) => format!("blob {digest}"),
        DamagedObject::Layer(digest) => format!("layer {digest}"),
        DamagedObject::Catalog => "the catalog".to_owned(),
    };
    json!({ "Object": object, "What": problem.what, "Images": problem.images })
}
