//! An image of a container.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bollard_stubs::models::ContainerConfig;
use engine::{CommitRequest, Engine, ImageConfig};
use serde::Serialize;
use serde_json::Value;

use crate::body::{OptionalJsonBody, typed};
use crate::create::{health, lists_from_text};
use crate::error::ApiError;
use crate::instructions;
use crate::query::Params;

/// Docker's answer.
#[derive(Serialize)]
pub(super) struct Committed {
    #[serde(rename = "Id")]
    id: String,
}

/// `POST /commit`
pub(super) async fn commit(
    State(engine): State<Engine>,
    params: Params,
    OptionalJsonBody(body): OptionalJsonBody<Value>,
) -> Result<(StatusCode, Json<Committed>), ApiError> {
    let container = engine
        .inspect(params.text("container").unwrap_or_default())
        .await?;
    let mut config = match body.filter(|body| !body.is_null()) {
        Some(body) => read_config(body)?,
        None => ImageConfig::of_container(&container.config),
    };
    instructions::apply(&mut config, params.texts("changes"))?;
    let text = |name| params.text(name).unwrap_or_default().to_owned();
    let request = CommitRequest {
        name: params.image_name(),
        comment: text("comment"),
        author: text("author"),
        pause: params.flag_or("pause", true),
        config,
    };
    let id = engine.commit(&container.id, request).await?;
    Ok((StatusCode::CREATED, Json(Committed { id })))
}

/// What a body says of how the image's containers run. What concerns one container only is not part of an image.
fn read_config(body: Value) -> Result<ImageConfig, ApiError> {
    let body: ContainerConfig = typed(lists_from_text(body))?;
    Ok(ImageConfig {
        user: body.user.unwrap_or_default(),
        exposed_ports: body.exposed_ports.unwrap_or_default().into_iter().collect(),
        env: body.env.unwrap_or_default(),
        entrypoint: body.entrypoint,
        command: body.cmd,
        volumes: body.volumes.unwrap_or_default().into_iter().collect(),
        working_dir: body.working_dir.unwrap_or_default(),
        labels: body.labels.unwrap_or_default().into_iter().collect(),
        stop_signal: body.stop_signal.unwrap_or_default(),
        health_check: health::read(body.healthcheck.unwrap_or_default())?.for_image(),
        shell: body.shell.unwrap_or_default(),
        on_build: body.on_build.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_is_a_containers_configuration() {
        let config = read_config(json!({
            "Hostname": "h", "Tty": true, "Image": "x", "Cmd": "ls", "Env": ["A=1"], "Entrypoint": null,
            "ExposedPorts": { "80/tcp": {} }, "Labels": { "l": "1" }, "OnBuild": null,
            "Healthcheck": { "Test": ["NONE"], "Retries": 2 },
        }))
        .unwrap();
        assert_eq!(config.command, Some(vec!["ls".to_owned()]));
        assert_eq!(
            (config.env.len(), config.exposed_ports.len(), config.labels.len()),
            (1, 1, 1)
        );
        assert_eq!(config.health_check.unwrap().retries, 2);
        for wrong in [
            json!([]),
            json!("x"),
            json!({ "Env": 1 }),
            json!({ "Labels": ["x"] }),
        ] {
            assert!(read_config(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
