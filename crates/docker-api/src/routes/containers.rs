//! The life of a container: create, start, stop, kill, pause, wait, remove.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use bollard_stubs::models::{ContainerCreateResponse, ContainerWaitExitError, ContainerWaitResponse};
use bytes::Bytes;
use engine::{Engine, StopTimeout, WaitCondition, WaitStatus, WindowSize};
use futures_util::stream;
use serde_json::Value;

use crate::body::JsonBody;
use crate::create;
use crate::error::ApiError;
use crate::query::Params;

/// `POST /containers/create`
pub(super) async fn create(
    State(engine): State<Engine>,
    params: Params,
    JsonBody(body): JsonBody<Value>,
) -> Result<(StatusCode, Json<ContainerCreateResponse>), ApiError> {
    let create = create::read(body, params.text("name"))?;
    check_platform(params.text("platform"), &create.image)?;
    let created = engine.create(create).await?;
    let answer = ContainerCreateResponse {
        id: created.id,
        warnings: created.warnings,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Refuses a platform that microVMs of this machine cannot run.
fn check_platform(platform: Option<&str>, image: &str) -> Result<(), ApiError> {
    let Some(platform) = platform else { return Ok(()) };
    let (os, architecture) = platform.split_once('/').unwrap_or((platform, ""));
    let native = match architecture {
        "" => true,
        "amd64" | "x86_64" | "x86-64" => cfg!(target_arch = "x86_64"),
        "arm64" | "aarch64" | "arm64/v8" => cfg!(target_arch = "aarch64"),
        _ => false,
    };
    if os == "linux" && native {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        format!(
            "image with reference {image} was found but does not provide the specified platform ({platform})"
        ),
    ))
}

/// `POST /containers/{name}/start`
pub(super) async fn start(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    engine.start(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{name}/stop`
pub(super) async fn stop(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine
        .stop(&name, params.text("signal"), stop_timeout(&params)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{name}/restart`
pub(super) async fn restart(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine
        .restart(&name, params.text("signal"), stop_timeout(&params)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The parameter `t` in seconds; a negative number waits as long as it takes.
fn stop_timeout(params: &Params) -> Result<Option<StopTimeout>, ApiError> {
    let timeout = params.number::<i64>("t")?;
    Ok(timeout.map(|seconds| match u64::try_from(seconds) {
        Ok(seconds) => StopTimeout::After(Duration::from_secs(seconds)),
        Err(_) => StopTimeout::Never,
    }))
}

/// `POST /containers/{name}/kill`
pub(super) async fn kill(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine
        .kill(&name, params.text("signal").unwrap_or("SIGKILL"))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{name}/rename`
pub(super) async fn rename(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine
        .rename(&name, params.text("name").unwrap_or_default())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{name}/pause`
pub(super) async fn pause(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    engine.pause(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{name}/unpause`
pub(super) async fn unpause(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    engine.unpause(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /containers/{name}`
pub(super) async fn remove(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    if params.flag("link") {
        return Err(ApiError::bad_request(
            "hull does not support links (rm --link) yet",
        ));
    }
    engine
        .remove(&name, params.flag("force"), params.flag("v"))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /containers/{name}/resize`
pub(super) async fn resize(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.resize(&name, window_size(&params)?).await?;
    Ok(StatusCode::OK)
}

/// The parameters `h` and `w`, in characters.
pub(super) fn window_size(params: &Params) -> Result<WindowSize, ApiError> {
    Ok(WindowSize {
        rows: params.number("h")?.unwrap_or_default(),
        columns: params.number("w")?.unwrap_or_default(),
    })
}

/// `POST /containers/{name}/wait`
///
/// The head of the answer is sent as soon as the wait has begun: clients start the container when they have it.
pub(super) async fn wait(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let condition = match params.text("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => return Err(ApiError::bad_request(format!("invalid condition: \"{other}\""))),
    };
    let waiter = engine.wait(&name, condition).await?;
    let status = stream::once(async move { wait_body(waiter.status().await) });
    let mut response = Response::new(Body::from_stream(status));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn wait_body(status: WaitStatus) -> io::Result<Bytes> {
    let error = Some(status.error).filter(|error| !error.is_empty());
    let answer = ContainerWaitResponse {
        status_code: i64::from(status.code),
        error: error.map(|message| ContainerWaitExitError {
            message: Some(message),
        }),
    };
    Ok(Bytes::from(serde_json::to_vec(&answer)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_platforms_of_this_machine_pass() {
        let native = if cfg!(target_arch = "x86_64") {
            "linux/amd64"
        } else {
            "linux/arm64"
        };
        assert_eq!(check_platform(None, "x"), Ok(()));
        assert_eq!(check_platform(Some("linux"), "x"), Ok(()));
        assert_eq!(check_platform(Some(native), "x"), Ok(()));
        for foreign in ["windows/amd64", "linux/s390x", "plan9"] {
            let error = check_platform(Some(foreign), "busybox").unwrap_err();
            assert!(error.message().contains("busybox") && error.message().contains(foreign));
        }
    }

    #[test]
    fn a_wait_answers_with_the_code_and_an_error_only_if_there_is_one() {
        let body = |code, error: &str| {
            wait_body(WaitStatus {
                code,
                error: error.into(),
            })
            .unwrap()
        };
        assert_eq!(body(3, ""), r#"{"StatusCode":3}"#);
        assert_eq!(
            body(137, "lost"),
            r#"{"StatusCode":137,"Error":{"Message":"lost"}}"#
        );
    }
}
