//! A container's file system: export, archives of paths, changes.

use std::io;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use engine::{Archive, Change, ChangeKind, Changes, Engine, PathStat, UnpackOptions};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use crate::error::ApiError;
use crate::file_mode::go_file_mode;
use crate::query::Params;

/// Where `GET` and `HEAD` of an archive tell what is at the path.
const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");
/// Changes are gathered into pieces of this many bytes.
const PIECE: usize = 16 * 1024;

/// `GET /containers/{name}/export`
pub(super) async fn export(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let archive = engine.export(&name).await?;
    let mut response = Response::new(Body::from_stream(pieces(archive)));
    let octets = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, octets);
    Ok(response)
}

/// `GET /containers/{name}/archive`
pub(super) async fn read(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let (stat, archive) = engine.path_archive(&name, path(&params)?).await?;
    let mut response = Response::new(Body::from_stream(pieces(archive)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TAR);
    headers.insert(PATH_STAT, describe(&stat)?);
    Ok(response)
}

/// `HEAD /containers/{name}/archive`
pub(super) async fn stat(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let stat = engine.path_stat(&name, path(&params)?).await?;
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(PATH_STAT, describe(&stat)?);
    Ok(response)
}

/// `PUT /containers/{name}/archive`
pub(super) async fn write(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
    body: Body,
) -> Result<(), ApiError> {
    let options = UnpackOptions {
        path: path(&params)?.to_owned(),
        keep_kinds: params.flag("noOverwriteDirNonDir"),
        as_user: params.flag("copyUIDGID"),
    };
    let mut unpacking = engine.unpack(&name, options).await?;
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        // A client that goes away in the middle must not be taken for one that is done.
        let piece = piece.map_err(|error| {
            ApiError::bad_request(format!(
                "cannot read the archive in the body of the request: {error}"
            ))
        })?;
        if !unpacking.write(&piece).await {
            break;
        }
    }
    Ok(unpacking.end().await?)
}

/// `GET /containers/{name}/changes`
pub(super) async fn changes(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let changes = engine.changes(&name).await?;
    let mut response = Response::new(Body::from_stream(list(changes)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

fn path(params: &Params) -> Result<&str, ApiError> {
    let missing = || ApiError::bad_request("bad parameter: pathcannot be empty");
    params.text("path").ok_or_else(missing)
}

/// An archive as a body. One that is cut breaks the connection off: nothing else tells a client.
fn pieces(archive: Archive) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(archive, async |mut archive| {
        let piece = archive.next().await.map_err(broken_off)?;
        Ok(piece.map(|piece| (piece, archive)))
    })
}

fn broken_off(error: engine::EngineError) -> io::Error {
    tracing::error!(%error, "what a client reads of a container's files is cut");
    io::Error::other(error)
}

/// A change as the API has it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ApiChange<'a> {
    path: &'a str,
    kind: u8,
}

impl<'a> From<&'a Change> for ApiChange<'a> {
    fn from(change: &'a Change) -> Self {
        Self {
            path: &change.path,
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
        }
    }
}

/// How far a list of changes is written.
enum Written {
    Nothing,
    Some,
    All,
}

/// The changes as one JSON array, or `null` for none, as Docker has it. They may be many: they are written as they come.
fn list(changes: Changes) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((changes, Written::Nothing), async |(mut changes, mut written)| {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let change = match written {
                Written::All => break,
                _ => changes.next().await.map_err(broken_off)?,
            };
            match (&change, &written) {
                (Some(_), Written::Nothing) => piece.push(b'['),
                (Some(_), _) => piece.push(b','),
                (None, Written::Nothing) => piece.extend_from_slice(b"null\n"),
                (None, _) => piece.extend_from_slice(b"]\n"),
            }
            written = match &change {
                Some(change) => {
                    serde_json::to_writer(&mut piece, &ApiChange::from(change))?;
                    Written::Some
                }
                None => Written::All,
            };
        }
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (changes, written))))
    })
}

/// The JSON in the header, `container.PathStat` of Docker's API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiPathStat<'a> {
    name: &'a str,
    size: u64,
    mode: u32,
    mtime: String,
    link_target: &'a str,
}

fn describe(stat: &PathStat) -> Result<HeaderValue, ApiError> {
    let nanoseconds = i32::try_from(stat.mtime_nanoseconds).unwrap_or_default();
    let mtime = Timestamp::new(stat.mtime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    let stat = ApiPathStat {
        name: &stat.name,
        size: stat.size,
        mode: go_file_mode(stat.mode),
        mtime: mtime.to_string(),
        link_target: &stat.link_target,
    };
    let internal = |error: String| ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, error);
    let json = serde_json::to_vec(&stat).map_err(|error| internal(error.to_string()))?;
    HeaderValue::from_str(&BASE64_STANDARD.encode(&json)).map_err(|error| internal(error.to_string()))
}
