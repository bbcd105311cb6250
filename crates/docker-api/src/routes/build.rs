//! Building images (Docker Engine API, "Build an image"), in the form of Docker's classic builder.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard_stubs::models::ResourcesUlimits;
use bytes::Bytes;
use engine::{
    Build, BuildEvent, BuildFiles, BuildLimits, BuildSpec, Engine, RegistryCredentials, Resources, familiar,
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::build_cache::targets;
use super::images::{AuthConfig, BASE64, platform};
use crate::body::JsonBody;
use crate::create::rlimit;
use crate::error::ApiError;
use crate::hijack::StreamRequest;
use crate::query::Params;

/// Base64 of a JSON object: the clients' credentials, by registry.
const REGISTRIES: &str = "x-registry-config";
/// The same of secrets, each in base64, by their names.
const SECRETS: &str = "x-hull-build-secrets";
/// Whether the body begins with an archive of build caches: folders, each an OCI image layout.
const CACHES: &str = "cachearchive";
/// Whether large files of the context may be without their contents, as they are here.
const PARTS: &str = "contextparts";
/// The build argument that asks BuildKit for a cache in the image.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";
/// How Docker Hub is called there, beside its name.
const HUB: [&str; 2] = ["https://index.docker.io/v1/", "index.docker.io"];

/// `POST /build`
pub(super) async fn build(
    State(engine): State<Engine>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let spec = read_spec(&params, &headers)?;
    let (with_caches, in_parts) = (params.flag(CACHES), params.flag(PARTS));
    let remote = match params.text("remote") {
        Some(url) => Some(engine.remote_build_context(url).await?),
        None => None,
    };
    let files = match remote {
        Some(context) if !with_caches => BuildFiles {
            context,
            caches: None,
        },
        Some(context) => BuildFiles {
            context,
            ..take_in(&engine, body, with_caches, in_parts).await?
        },
        None => take_in(&engine, body, with_caches, in_parts).await?,
    };
    let build = engine.build(spec, files).await?;
    Ok(tell(unused(&params), build, params.flag("q")))
}

async fn take_in(
    engine: &Engine,
    body: Body,
    with_caches: bool,
    in_parts: bool,
) -> Result<BuildFiles, ApiError> {
    let input = engine.build_context(with_caches, in_parts).await;
    let mut pieces = pin!(body.into_data_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece
            .map_err(|error| ApiError::bad_request(format!("the build context did not come: {error}")))?;
        if !piece.is_empty() && !input.write(piece).await {
            break;
        }
    }
    Ok(input.finish().await?)
}

fn read_spec(params: &Params, headers: &HeaderMap) -> Result<BuildSpec, ApiError> {
    for (name, instead) in [
        (
            "squash",
            "hull does not squash layers: build in one stage and copy the result into another",
        ),
        (
            "outputs",
            "the command line writes outputs itself: build without it, and save the image",
        ),
    ] {
        if params.flag(name) {
            return Err(ApiError::bad_request(format!(
                "{name} is not supported: {instead}"
            )));
        }
    }
    if params.text("version") == Some("2") {
        return Err(ApiError::bad_request(
            "BuildKit's protocol is not spoken here: hull builds what BuildKit does over the classic one; with Docker's \
             command line set DOCKER_BUILDKIT=0",
        ));
    }
    let text = |name: &str| params.text(name).unwrap_or_default().to_owned();
    if !params.texts("ssh").is_empty() && text("sshsession").is_empty() {
        return Err(ApiError::bad_request(
            "an SSH agent is lent in a session: `ssh` needs `sshsession`",
        ));
    }
    let mut values: BTreeMap<String, Option<String>> = json_of(params, "buildargs")?;
    let asked = values.remove(INLINE_CACHE).flatten();
    let (cache_to, is_inline) = targets(json_of(params, "cacheto")?)?;
    Ok(BuildSpec {
        dockerfile: text("dockerfile"),
        names: params
            .texts("t")
            .iter()
            .filter(|name| !name.is_empty())
            .cloned()
            .collect(),
        // One without a value is not given.
        arguments: values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        labels: json_of(params, "labels")?,
        target: text("target"),
        platform: platform::one(params)?.unwrap_or_default(),
        no_cache: params.flag("nocache"),
        pull: params.flag("pull"),
        time_limit: time_limit(params)?,
        network: text("networkmode"),
        limits: limits(params)?,
        credentials: credentials(headers),
        secrets: secrets(headers)?,
        agents: params.texts("ssh").iter().cloned().collect(),
        session: text("sshsession"),
        cache_from: json_of(params, "cachefrom")?,
        cache_to,
        inline_cache: is_inline || asked.is_some_and(|value| matches!(value.as_str(), "1" | "true")),
    })
}

/// How many seconds the build may take, with decimals; 0 is no limit.
fn time_limit(params: &Params) -> Result<Option<Duration>, ApiError> {
    let seconds: Option<f64> = params.number("timeout")?;
    let time = seconds.map(Duration::try_from_secs_f64).transpose();
    let time = time.map_err(|error| {
        ApiError::bad_request(format!("invalid value of the query parameter `timeout`: {error}"))
    })?;
    Ok(time.filter(|time| !time.is_zero()))
}

fn limits(params: &Params) -> Result<BuildLimits, ApiError> {
    let ulimits: Vec<ResourcesUlimits> = json_of(params, "ulimits")?;
    Ok(BuildLimits {
        resources: Resources {
            memory_bytes: params.number("memory")?.unwrap_or_default(),
            memory_swap_bytes: params.number("memswap")?.unwrap_or_default(),
            cpu_quota_us: params.number("cpuquota")?.unwrap_or_default(),
            cpu_period_us: params.number("cpuperiod")?.unwrap_or_default(),
            cpu_shares: params.number("cpushares")?.unwrap_or_default(),
            ..Resources::default()
        },
        shm_bytes: params.number("shmsize")?.unwrap_or_default(),
        rlimits: ulimits.into_iter().map(rlimit).collect::<Result<_, _>>()?,
        extra_hosts: params
            .texts("extrahosts")
            .iter()
            .flat_map(|hosts| hosts.split(','))
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect(),
        cpuset_cpus: params.text("cpusetcpus").unwrap_or_default().to_owned(),
    })
}

fn json_of<T: DeserializeOwned + Default>(params: &Params, name: &str) -> Result<T, ApiError> {
    let Some(text) = params.text(name) else {
        return Ok(T::default());
    };
    let read: Option<T> = serde_json::from_str(text).map_err(|error| {
        ApiError::bad_request(format!("the query parameter {name} is malformed: {error}"))
    })?;
    Ok(read.unwrap_or_default())
}

/// The credentials of each registry, by its host. What cannot be read counts as none, as with Docker.
fn credentials(headers: &HeaderMap) -> HashMap<String, RegistryCredentials> {
    let read = headers.get(REGISTRIES).and_then(|value| {
        let json = BASE64.decode(value.as_bytes()).ok()?;
        serde_json::from_slice::<HashMap<String, AuthConfig>>(&json).ok()
    });
    let of_host = |(server, config): (String, AuthConfig)| {
        let host = match HUB.contains(&server.as_str()) {
            true => "docker.io".to_owned(),
            false => server
                .trim_start_matches("https://")
                .trim_start_matches("http://")
                .split('/')
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        (host, config.credentials())
    };
    read.unwrap_or_default().into_iter().map(of_host).collect()
}

fn secrets(headers: &HeaderMap) -> Result<BTreeMap<String, Vec<u8>>, ApiError> {
    let Some(value) = headers.get(SECRETS) else {
        return Ok(BTreeMap::new());
    };
    // What is in it is not repeated.
    let malformed = || {
        ApiError::bad_request(
            "the header X-Hull-Build-Secrets is malformed: base64 of a JSON object is expected",
        )
    };
    let json = BASE64.decode(value.as_bytes()).map_err(|_| malformed())?;
    let encoded: BTreeMap<String, String> = serde_json::from_slice(&json).map_err(|_| malformed())?;
    let decode = |(id, content): (String, String)| {
        let content = BASE64_STANDARD.decode(content).map_err(|_| malformed())?;
        Ok((id, content))
    };
    encoded.into_iter().map(decode).collect()
}

/// What is asked for and changes nothing here, so that nobody relies on it.
fn unused(params: &Params) -> Vec<String> {
    let is_given = |name: &&&str| {
        let value = params.text(name).unwrap_or_default();
        !matches!(value, "" | "[]" | "null")
    };
    let warning = |(name, why): &(&str, &str)| format!("{name} is not used: {why}");
    let known = [
        ("cpusetmems", "a microVM has one node of memory"),
        ("cgroupparent", "each microVM has a control group of its own"),
    ];
    known
        .iter()
        .filter(|(name, _)| is_given(&name))
        .map(warning)
        .collect()
}

/// Tells a build as it goes on. It is given up when the client goes.
fn tell(warnings: Vec<String>, build: Build, quiet: bool) -> Response {
    let warnings = warnings
        .into_iter()
        .flat_map(move |text| describe(BuildEvent::Warning(text), quiet));
    let warnings: String = warnings.map(|object| format!("{object}\r\n")).collect();
    let first = stream::iter([Ok::<Bytes, Infallible>(warnings.into())]);
    let body = stream::unfold(Some(build), move |build| async move {
        let mut build = build?;
        let (objects, rest) = match build.next().await {
            Some(event) => (describe(event, quiet), Some(build)),
            None => match build.end().await {
                Ok(_) => (Vec::new(), None),
                Err(failure) => {
                    let mut detail = json!({ "message": failure.message });
                    if let Some(code) = failure.code {
                        detail["code"] = code.into();
                    }
                    (
                        vec![json!({ "errorDetail": detail, "error": failure.message })],
                        None,
                    )
                }
            },
        };
        let text: String = objects.iter().map(|object| format!("{object}\r\n")).collect();
        Some((Ok::<Bytes, Infallible>(text.into()), rest))
    });
    let mut response = Response::new(Body::from_stream(first.chain(body)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn describe(event: BuildEvent, quiet: bool) -> Vec<Value> {
    let line = |text: String| vec![json!({ "stream": text })];
    match event {
        BuildEvent::Built { id, .. } if quiet => {
            vec![
                json!({ "aux": { "ID": id } }),
                json!({ "stream": format!("{id}\n") }),
            ]
        }
        _ if quiet => Vec::new(),
        BuildEvent::Step { number, total, text } => line(format!("Step {number}/{total} : {text}\n")),
        BuildEvent::Cached => line(" ---> Using cache\n".into()),
        BuildEvent::Made(id) => line(format!(" ---> {}\n", short(&id))),
        BuildEvent::Output { bytes, .. } => line(String::from_utf8_lossy(&bytes).into_owned()),
        BuildEvent::Warning(text) => line(format!("[Warning] {text}\n")),
        BuildEvent::Built { id, names } => {
            let mut told = vec![
                json!({ "aux": { "ID": id } }),
                json!({ "stream": format!("Successfully built {}\n", short(&id)) }),
            ];
            let tagged = names
                .iter()
                .map(|name| json!({ "stream": format!("Successfully tagged {}\n", familiar(name)) }));
            told.extend(tagged);
            told
        }
    }
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

/// Contents of files.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Contents {
    contents: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    digest: String,
    size: u64,
}

/// `POST /hull/build/contents`: of these contents of large files, the digests of those that have to be sent with a build context. In its
/// archive the others may be left out: a file of no bytes then has the attribute `hull.content`, which is the digest, a space and the
/// size.
pub(super) async fn contents(
    State(engine): State<Engine>,
    JsonBody(body): JsonBody<Contents>,
) -> Result<Json<Vec<String>>, ApiError> {
    let read = |Named { digest, size }| {
        let digest = digest.parse();
        digest
            .map(|digest| (digest, size))
            .map_err(|error| ApiError::bad_request(format!("a digest of a content: {error}")))
    };
    let named = body.contents.into_iter().map(read).collect::<Result<_, _>>()?;
    let missing = engine.missing_contents(named);
    Ok(Json(missing.iter().map(ToString::to_string).collect()))
}

/// `POST /hull/build/ssh`: lends an SSH agent of the client (`id`) to the build that has named it in `ssh`, and the same `session`. The
/// connection is taken by one of its commands at some time; from then on it carries what the command asks, and what the agent answers.
pub(super) async fn lend_ssh_agent(
    State(engine): State<Engine>,
    params: Params,
    request: StreamRequest,
) -> Result<Response, ApiError> {
    let [session, id] = ["session", "id"].map(|name| params.text(name).unwrap_or_default().to_owned());
    if session.is_empty() || id.is_empty() {
        return Err(ApiError::bad_request(
            "an SSH agent is lent to a session under an id: both are to be given",
        ));
    }
    request.connect(async move { engine.lend_ssh_agent(&session, &id).await })
}

/// `GET /hull/images/{name}/files`: the files of an image as one archive, as its containers find them.
pub(super) async fn files(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let files = engine.image_files(&name).await?;
    let pieces = stream::unfold(files, async |mut files| Some((files.next().await?, files)));
    let mut response = Response::new(Body::from_stream(pieces));
    let tar = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(CONTENT_TYPE, tar);
    Ok(response)
}
