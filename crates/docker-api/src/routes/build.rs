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
    Build, BuildContext, BuildEvent, BuildLimits, BuildSpec, CacheRecord, Engine, RegistryCredentials,
    Resources, familiar,
};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::images::{AuthConfig, BASE64, parse_until, platform};
use crate::create::rlimit;
use crate::error::ApiError;
use crate::query::Params;

/// Base64 of a JSON object: the clients' credentials, by registry.
const REGISTRIES: &str = "x-registry-config";
/// The same of secrets, each in base64, by their names.
const SECRETS: &str = "x-hull-build-secrets";
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
    let context = match params.text("remote") {
        Some(url) => engine.remote_build_context(url).await?,
        None => take_in(&engine, body).await?,
    };
    let build = engine.build(spec, context).await?;
    Ok(tell(unused(&params), build, params.flag("q")))
}

async fn take_in(engine: &Engine, body: Body) -> Result<BuildContext, ApiError> {
    let input = engine.build_context().await;
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
    let values: BTreeMap<String, Option<String>> = json_of(params, "buildargs")?;
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
        (
            "cachefrom",
            "all builds of this daemon share one cache, and there is none elsewhere yet",
        ),
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

/// Docker's answer to a prune.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruned {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// `POST /build/prune`: everything with `all`, else what no build has used for the longest time: entries that are older than
/// `until`, and of the newer ones what is over `keep-storage`.
pub(super) async fn prune(State(engine): State<Engine>, params: Params) -> Result<Json<Pruned>, ApiError> {
    let filters = params.filters()?.only(&["id", "until", "label", "label!"])?;
    let now = Timestamp::now();
    let before = parse_until(&filters, now)?;
    // What is asked for by a label is no part of a cache without any.
    let is_labelled = ["label", "label!"]
        .iter()
        .any(|name| !filters.values(name).is_empty());
    let ids = filters.values("id").to_vec();
    let all = params.flag("all");
    let keep: u64 = params
        .number("keep-storage")?
        .or(params.number("reserved-space")?)
        .unwrap_or_default();
    let usage = engine.build_cache().await?;
    let mut total: u64 = usage.entries.iter().map(|record| record.entry.size).sum();
    // Those that were not used for longest go first.
    let mut over = std::collections::HashSet::new();
    for record in &usage.entries {
        if total > keep {
            over.insert(record.id.clone());
            total -= record.entry.size;
        }
    }
    let select = move |record: &CacheRecord| {
        let used = Timestamp::try_from(record.used).unwrap_or(now);
        !is_labelled
            && (ids.is_empty() || ids.contains(&record.id))
            && before.is_none_or(|before| used < before)
            && (keep == 0 || over.contains(&record.id) || record.entry.image.is_none())
    };
    let pruned = engine.prune_build_cache(all && !is_labelled, select).await?;
    Ok(Json(Pruned {
        caches_deleted: (!pruned.entries.is_empty()).then_some(pruned.entries),
        space_reclaimed: pruned.reclaimed,
    }))
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

/// What the cache takes, as `/system/df` tells it.
pub(super) async fn usage(engine: &Engine) -> Result<(Vec<Value>, u64), ApiError> {
    let usage = engine.build_cache().await?;
    let time = |time| {
        Timestamp::try_from(time)
            .map(|time: Timestamp| time.to_string())
            .unwrap_or_default()
    };
    let mut records: Vec<Value> = usage
        .entries
        .iter()
        .map(|record| {
            json!({
                "ID": record.id,
                "Type": "regular",
                "Description": record.entry.description,
                "InUse": false,
                "Shared": false,
                "Size": record.entry.size,
                "CreatedAt": record.entry.created,
                "LastUsedAt": time(record.used),
                "UsageCount": 1,
            })
        })
        .collect();
    if usage.mounts > 0 {
        records.push(json!({
            "ID": "mounts",
            "Type": "exec.cachemount",
            "Description": "folders of RUN --mount=type=cache",
            "InUse": false,
            "Shared": false,
            "Size": usage.mounts,
            "CreatedAt": time(std::time::SystemTime::UNIX_EPOCH),
            "UsageCount": 1,
        }));
    }
    let size = usage.entries.iter().map(|record| record.entry.size).sum::<u64>();
    Ok((records, size.saturating_add(usage.mounts)))
}
