//! Attaching to a container.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use engine::{AttachOptions, Engine};

use crate::error::ApiError;
use crate::hijack::StreamRequest;
use crate::query::Params;
use crate::stdcopy::Framing;

/// `POST /containers/{name}/attach`
pub(super) async fn attach(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
    request: StreamRequest,
    body: Body,
) -> Result<Response, ApiError> {
    let options = AttachOptions {
        logs: params.flag("logs"),
        stream: params.flag("stream"),
        stdin: params.flag("stdin"),
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        detach_keys: params.text("detachKeys").map(str::to_owned),
    };
    let attachment = engine.attach(&name, options).await?;
    let framing = Framing::of(attachment.terminal);
    Ok(request.respond(framing, body, async { Ok(attachment) }))
}
