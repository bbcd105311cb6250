//! Further processes in a running container.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bollard_stubs::models::{ExecConfig, ExecInspectResponse, ExecStartConfig, ProcessConfig};
use engine::{Engine, EngineError, Exec, ExecCreate, ExecStart, WindowSize};
use serde_json::{Value, json};

use super::containers::window_size;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::hijack::StreamRequest;
use crate::query::Params;
use crate::stdcopy::Framing;

/// `POST /containers/{name}/exec`
pub(super) async fn create(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    JsonBody(config): JsonBody<ExecConfig>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let create = ExecCreate {
        args: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        terminal: config.tty.unwrap_or_default(),
        attach_stdin: config.attach_stdin.unwrap_or_default(),
        attach_stdout: config.attach_stdout.unwrap_or_default(),
        attach_stderr: config.attach_stderr.unwrap_or_default(),
        detach_keys: config.detach_keys.filter(|keys| !keys.is_empty()),
        privileged: config.privileged.unwrap_or_default(),
    };
    if create.args.is_empty() {
        return Err(ApiError::bad_request("No exec command specified"));
    }
    let id = engine.exec_create(&name, create).await?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id }))))
}

/// `POST /exec/{id}/start`
///
/// Once the exec is known to exist and not to have been started, a client that stays attached is told that streams
/// follow, and reads there why the command could not be executed.
pub(super) async fn start(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    streams: StreamRequest,
    JsonBody(config): JsonBody<ExecStartConfig>,
) -> Result<Response, ApiError> {
    let start = ExecStart {
        detach: config.detach.unwrap_or_default(),
        size: console_size(config.console_size.as_deref()),
    };
    if start.detach {
        engine.exec_start(&id, start).await?;
        return Ok(StatusCode::OK.into_response());
    }
    let exec = engine.exec_inspect(&id).await?;
    if exec.running || exec.exit_code.is_some() {
        let state = if exec.running {
            "is already running"
        } else {
            "has already run"
        };
        return Err(EngineError::Conflict(format!("Error: Exec command {id} {state}")).into());
    }
    let framing = Framing::of(exec.config.terminal);
    Ok(streams.respond(framing, Body::empty(), async move {
        let attachment = engine.exec_start(&id, start).await?;
        attachment.ok_or_else(|| EngineError::Internal(format!("exec {id} was started without streams")))
    }))
}

/// `[rows, columns]`; zeros are no size.
fn console_size(size: Option<&[usize]>) -> Option<WindowSize> {
    let &[rows, columns] = size? else { return None };
    let size = WindowSize {
        rows: rows.try_into().ok()?,
        columns: columns.try_into().ok()?,
    };
    (size != WindowSize::default()).then_some(size)
}

/// `POST /exec/{id}/resize`
pub(super) async fn resize(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    engine.exec_resize(&id, window_size(&params)?).await?;
    Ok(StatusCode::OK)
}

/// `GET /exec/{id}/json`
pub(super) async fn inspect(
    State(engine): State<Engine>,
    Path(id): Path<String>,
) -> Result<Json<ExecInspectResponse>, ApiError> {
    Ok(Json(describe(engine.exec_inspect(&id).await?)))
}

fn describe(exec: Exec) -> ExecInspectResponse {
    let Exec {
        id,
        container_id,
        config,
        running,
        exit_code,
        pid,
    } = exec;
    let mut args = config.args.into_iter();
    ExecInspectResponse {
        id: Some(id),
        container_id: Some(container_id),
        running: Some(running),
        exit_code: exit_code.map(i64::from),
        pid: Some(i64::from(pid)),
        can_remove: Some(false),
        detach_keys: Some(config.detach_keys.unwrap_or_default()),
        open_stdin: Some(config.attach_stdin),
        open_stdout: Some(config.attach_stdout),
        open_stderr: Some(config.attach_stderr),
        process_config: Some(ProcessConfig {
            tty: Some(config.terminal),
            privileged: Some(config.privileged),
            user: Some(config.user),
            entrypoint: args.next(),
            arguments: Some(args.collect()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_of_no_size_is_none() {
        let size = WindowSize {
            rows: 24,
            columns: 80,
        };
        assert_eq!(console_size(Some(&[24, 80])), Some(size));
        for none in [None, Some(&[0, 0][..]), Some(&[24][..]), Some(&[70_000, 80][..])] {
            assert_eq!(console_size(none), None);
        }
    }
}
