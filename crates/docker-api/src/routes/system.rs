//! The daemon itself: ping, version, info.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use bollard_stubs::models::{
    Commit, LocalNodeState, PluginsInfo, Runtime, SwarmInfo, SystemInfo, SystemInfoCgroupDriverEnum,
    SystemInfoCgroupVersionEnum, SystemVersion, SystemVersionComponents, SystemVersionPlatform,
};
use engine::{Engine, Info};
use jiff::Timestamp;

use crate::about::{About, InfoBody};
use crate::error::ApiError;
use crate::version::ApiVersion;

/// `GET` and `HEAD` of `/_ping`
pub(super) async fn ping() -> impl IntoResponse {
    let headers = [
        (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (PRAGMA, "no-cache"),
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
    ];
    (headers, "OK")
}

/// `GET /version`
pub(super) async fn version(State(engine): State<Engine>) -> Result<Json<SystemVersion>, ApiError> {
    Ok(Json(describe_version(&engine.info().await?)))
}

/// Go's name of the architecture this was built for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn describe_version(info: &Info) -> SystemVersion {
    let details = [
        ("ApiVersion", ApiVersion::NEWEST.to_string()),
        ("MinAPIVersion", ApiVersion::OLDEST.to_string()),
        ("Arch", architecture().into()),
        ("Os", "linux".into()),
        ("KernelVersion", info.kernel.clone()),
        ("Experimental", "false".into()),
    ];
    let mut components = vec![SystemVersionComponents {
        name: "Engine".into(),
        version: info.version.into(),
        details: Some(
            details
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        ),
    }];
    components.extend(info.guest_kernel.as_ref().map(|release| SystemVersionComponents {
        name: "Guest kernel".into(),
        version: release.clone(),
        details: None,
    }));
    SystemVersion {
        platform: Some(SystemVersionPlatform { name: "hull".into() }),
        components: Some(components),
        version: Some(info.version.into()),
        api_version: Some(ApiVersion::NEWEST.to_string()),
        min_api_version: Some(ApiVersion::OLDEST.to_string()),
        git_commit: Some(String::new()),
        go_version: Some(String::new()),
        os: Some("linux".into()),
        arch: Some(architecture().into()),
        kernel_version: Some(info.kernel.clone()),
        experimental: Some(false),
        build_time: Some(String::new()),
    }
}

/// `GET /info`
pub(super) async fn info(
    State(engine): State<Engine>,
    Extension(about): Extension<About>,
) -> Result<Json<InfoBody>, ApiError> {
    let info = engine.info().await?;
    Ok(Json(InfoBody {
        paths: about.paths(&info),
        docker: SystemInfo {
            warnings: Some(about.warnings(&info)),
            ..describe_info(info)
        },
    }))
}

fn count(number: usize) -> Option<i64> {
    i64::try_from(number).ok()
}

fn describe_info(info: Info) -> SystemInfo {
    let no_commit = || {
        Some(Commit {
            id: Some(String::new()),
        })
    };
    let guest_kernel = info.guest_kernel.unwrap_or_else(|| "unknown".into());
    SystemInfo {
        id: Some(info.id),
        containers: count(info.running + info.paused + info.stopped),
        containers_running: count(info.running),
        containers_paused: count(info.paused),
        containers_stopped: count(info.stopped),
        images: count(info.images),
        driver: Some("erofs".into()),
        driver_status: Some(vec![vec!["Guest kernel".into(), guest_kernel]]),
        docker_root_dir: Some(info.root.display().to_string()),
        plugins: Some(PluginsInfo {
            volume: Some(vec!["local".into()]),
            network: Some(vec!["bridge".into(), "null".into()]),
            authorization: None,
            log: Some(vec!["json-file".into(), "local".into()]),
        }),
        memory_limit: Some(true),
        // A microVM has no swap, so that there is none to limit: without this clients warn of it.
        swap_limit: Some(true),
        cpu_cfs_period: Some(true),
        cpu_cfs_quota: Some(true),
        cpu_shares: Some(true),
        cpu_set: Some(true),
        pids_limit: Some(true),
        oom_kill_disable: Some(false),
        // It is turned on for networks when the first one is used.
        ipv4_forwarding: Some(true),
        debug: Some(tracing::enabled!(tracing::Level::DEBUG)),
        system_time: Some(Timestamp::now().to_string()),
        logging_driver: Some("json-file".into()),
        cgroup_driver: Some(SystemInfoCgroupDriverEnum::CGROUPFS),
        cgroup_version: Some(SystemInfoCgroupVersionEnum::_2),
        n_events_listener: count(info.listeners),
        kernel_version: Some(info.kernel),
        operating_system: Some(info.operating_system),
        os_version: Some(String::new()),
        os_type: Some("linux".into()),
        architecture: Some(info.machine),
        ncpu: count(info.cpus),
        mem_total: i64::try_from(info.memory_bytes).ok(),
        name: Some(info.host_name),
        labels: Some(Vec::new()),
        experimental_build: Some(false),
        server_version: Some(info.version.into()),
        runtimes: Some(HashMap::from([("hull".to_owned(), Runtime::default())])),
        default_runtime: Some("hull".into()),
        swarm: Some(SwarmInfo {
            local_node_state: Some(LocalNodeState::INACTIVE),
            ..SwarmInfo::default()
        }),
        live_restore_enabled: Some(true),
        // The name under which clients keep the credentials for Docker Hub.
        index_server_address: Some("https://index.docker.io/v1/".into()),
        init_binary: Some(String::new()),
        containerd_commit: no_commit(),
        runc_commit: no_commit(),
        init_commit: no_commit(),
        security_options: Some(vec!["name=microvm".into(), "name=seccomp,profile=builtin".into()]),
        ..SystemInfo::default()
    }
}
