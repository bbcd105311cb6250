//! Networks. There is one: none, which a container has that is to have no other. It has a loopback interface only.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bollard_stubs::models::{EndpointSettings, Ipam};
use engine::{ContainerCreate, Engine};
use serde_json::{Value, json};

use super::inspect::network_mode;
use crate::error::ApiError;
use crate::name_patterns;
use crate::query::Params;

/// The network's name.
const NONE: &str = "none";
/// Its id, which is the same in every hull: the SHA-256 of its name.
const ID: &str = "140bedbf9c3f6d56a9846d2ba7088798683f4da0c248231336e6a05679e4fdfe";

/// `GET /networks`
pub(super) async fn list(params: Params) -> Result<Json<Vec<Value>>, ApiError> {
    let filters = params
        .filters()?
        .only(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let names = name_patterns::read(&filters)?;
    let passes = (names.is_empty() || names.iter().any(|name| name.is_match(NONE)))
        && filters.any("id", |id| ID.starts_with(id.as_str()))
        && filters.any("driver", |driver| driver == "null")
        && filters.any("scope", |scope| scope == "local")
        && filters.any("type", |kind| kind == "builtin")
        && filters.any("dangling", |dangling| !matches!(dangling.as_str(), "1" | "true"))
        && filters.values("label").is_empty();
    Ok(Json(passes.then(|| describe(&json!({}))).into_iter().collect()))
}

/// `GET /networks/{name}`
pub(super) async fn inspect(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    if name != NONE && (name.len() < 12 || !ID.starts_with(&name)) {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("network {name} not found"),
        ));
    }
    let running = engine.list(&engine::ListFilter::default()).await?;
    let connected = running
        .iter()
        .filter(|container| network_mode(&container.config) == NONE)
        .map(|container| (container.id.clone(), json!({ "Name": container.name })));
    Ok(Json(describe(&connected.collect())))
}

/// `POST /networks/prune`: the one there is stays.
pub(super) async fn prune(params: Params) -> Result<Json<Value>, ApiError> {
    params.filters()?.only(&["label", "label!", "until"])?;
    Ok(Json(json!({ "NetworksDeleted": null })))
}

/// The networks of a container, by name.
pub(super) fn of(config: &ContainerCreate) -> HashMap<String, EndpointSettings> {
    let endpoint = EndpointSettings {
        network_id: Some(ID.into()),
        ..EndpointSettings::default()
    };
    let none = (network_mode(config) == NONE).then(|| (NONE.to_owned(), endpoint));
    none.into_iter().collect()
}

fn describe(connected: &Value) -> Value {
    json!({
        "Name": NONE, "Id": ID, "Created": "0001-01-01T00:00:00Z", "Scope": "local", "Driver": "null",
        "EnableIPv4": false, "EnableIPv6": false, "Internal": false, "Attachable": false, "Ingress": false,
        "IPAM": Ipam { driver: Some("default".into()), ..Ipam::default() },
        "ConfigFrom": { "Network": "" }, "ConfigOnly": false, "Containers": connected, "Options": {}, "Labels": {},
    })
}
