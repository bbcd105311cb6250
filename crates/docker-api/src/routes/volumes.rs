//! Volumes: list, create, inspect, remove, prune.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use engine::{Engine, Volume, VolumeCreate};
use serde::{Deserialize, Serialize};

use crate::body::JsonBody;
use crate::error::ApiError;
use crate::filters::{Filters, label_matches};
use crate::name_patterns;
use crate::query::Params;
use crate::version::ApiVersion;

/// The label by which clients know a volume whose name was made up.
const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// The only driver.
const DRIVER: &str = "local";
/// From this version on a prune spares volumes with names unless told otherwise.
const SPARES_NAMED: ApiVersion = ApiVersion { major: 1, minor: 42 };

/// What is answered about a volume. Labels and options that there are none of are `null`, as with Docker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Described {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

/// What a volume takes, and how many containers mount it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    ref_count: usize,
    size: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    volumes: Vec<Described>,
    warnings: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruned {
    volumes_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// What is to be created. What is not known here is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct CreateBody {
    name: Option<String>,
    driver: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    cluster_volume_spec: Option<serde_json::Value>,
}

/// `GET /volumes`
pub(super) async fn list(State(engine): State<Engine>, params: Params) -> Result<Json<Listed>, ApiError> {
    let filters = params.filters()?.only(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let names = name_patterns::read(&filters)?;
    let passes = |volume: &Volume| {
        dangling.is_none_or(|dangling| dangling == volume.users.is_empty())
            && filters.any("driver", |driver| driver == DRIVER)
            && has_labels(&filters, volume)
            && (names.is_empty() || names.iter().any(|name| name.is_match(&volume.name)))
    };
    let volumes = engine.volumes().await?.into_iter().filter(passes);
    Ok(Json(Listed {
        volumes: volumes.map(describe).collect(),
        warnings: None,
    }))
}

/// `POST /volumes/create`
pub(super) async fn create(
    State(engine): State<Engine>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Result<(StatusCode, Json<Described>), ApiError> {
    let name = body.name.filter(|name| !name.is_empty());
    check_driver(name.as_deref().unwrap_or_default(), body.driver.as_deref())?;
    if let Some(option) = body.driver_opts.iter().flatten().map(|(name, _)| name).next() {
        return Err(ApiError::bad_request(format!(
            "create {}: hull does not support the option \"{option}\" of the driver local: a volume is a folder \
             of the host, and the host mounts nothing for it",
            name.unwrap_or_default()
        )));
    }
    if body.cluster_volume_spec.is_some_and(|spec| !spec.is_null()) {
        return Err(ApiError::bad_request("hull does not support cluster volumes"));
    }
    let create = VolumeCreate {
        name,
        labels: body.labels.unwrap_or_default(),
    };
    let volume = engine.create_volume(create).await?;
    Ok((StatusCode::CREATED, Json(describe(volume))))
}

fn check_driver(name: &str, driver: Option<&str>) -> Result<(), ApiError> {
    match driver {
        None | Some("" | DRIVER) => Ok(()),
        Some(driver) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found"),
        )),
    }
}

/// `GET /volumes/{name}`
pub(super) async fn inspect(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<Json<Described>, ApiError> {
    Ok(Json(describe(engine.volume(&name).await?)))
}

/// `DELETE /volumes/{name}`
pub(super) async fn remove(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.remove_volume(&name, params.flag("force")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /volumes/prune`
pub(super) async fn prune(
    State(engine): State<Engine>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
) -> Result<Json<Pruned>, ApiError> {
    let filters = params.filters()?.only(&["all", "label", "label!"])?;
    let all = filters.flag("all")?.unwrap_or(version < SPARES_NAMED);
    let (removed, reclaimed) = engine
        .prune_volumes(|volume| {
            (all || volume.anonymous)
                && has_labels(&filters, volume)
                && filters.all("label!", |wanted| !has_label(volume, wanted))
        })
        .await?;
    Ok(Json(Pruned {
        volumes_deleted: (!removed.is_empty()).then_some(removed),
        space_reclaimed: reclaimed,
    }))
}

/// The volumes for `system df`.
pub(super) async fn usage(engine: &Engine) -> Result<Vec<Described>, ApiError> {
    let mut described = Vec::new();
    for volume in engine.volumes().await? {
        // One that is removed meanwhile takes nothing.
        let Ok(size) = engine.volume_size(&volume.name).await else {
            continue;
        };
        let usage = UsageData {
            ref_count: volume.users.len(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
        };
        described.push(Described {
            usage_data: Some(usage),
            ..describe(volume)
        });
    }
    Ok(described)
}

fn describe(volume: Volume) -> Described {
    let mut labels = volume.labels;
    if volume.anonymous {
        labels.entry(ANONYMOUS.into()).or_default();
    }
    Described {
        // Without fractions, which some clients do not read.
        created_at: volume.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        driver: DRIVER,
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        mountpoint: volume.mountpoint.display().to_string(),
        name: volume.name,
        options: None,
        scope: "local",
        usage_data: None,
    }
}

fn has_labels(filters: &Filters, volume: &Volume) -> bool {
    filters.all("label", |wanted| has_label(volume, wanted))
}

fn has_label(volume: &Volume, wanted: &str) -> bool {
    label_matches(wanted, |name| match volume.labels.get(name) {
        None if volume.anonymous && name == ANONYMOUS => Some(""),
        label => label.map(String::as_str),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn volume(name: &str, anonymous: bool) -> Volume {
        Volume {
            name: name.into(),
            created: Timestamp::from_millisecond(1_500).unwrap(),
            labels: BTreeMap::new(),
            anonymous,
            mountpoint: "/v/_data".into(),
            users: Vec::new(),
        }
    }

    #[test]
    fn a_volume_is_described_in_dockers_words() {
        let described = serde_json::to_value(describe(volume("data", false))).unwrap();
        assert_eq!(
            described,
            json!({"CreatedAt": "1970-01-01T00:00:01Z", "Driver": "local", "Labels": null,
                   "Mountpoint": "/v/_data", "Name": "data", "Options": null, "Scope": "local"})
        );
        let described = serde_json::to_value(describe(volume("x", true))).unwrap();
        assert_eq!(described["Labels"], json!({ANONYMOUS: ""}));
    }

    #[test]
    fn other_drivers_are_looked_for_in_vain() {
        assert!(check_driver("x", Some("")).is_ok() && check_driver("x", Some("local")).is_ok());
        let error = check_driver("x", Some("nfs")).unwrap_err();
        assert_eq!(
            error.message(),
            "create x: error looking up volume plugin nfs: plugin \"nfs\" not found"
        );
    }
}
