//! One container in full.

mod complete;

use std::collections::{BTreeMap, HashMap};

use axum::extract::{Path, State};
use axum::{Extension, Json};
use bollard_stubs::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, DriverData, Health,
    HealthStatusEnum, HealthcheckResult, HostConfig, HostConfigCgroupnsModeEnum, MountPoint,
    ResourcesUlimits,
};
use engine::{
    Container, ContainerCreate, ContainerSizes, Engine, HealthStatus, MountCreate, MountKind, Rlimit, Status,
    Timeline, VmSize, VolumesFrom,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use self::complete::Complete;

use super::endpoints;
use crate::create::{devices, health, log, modes, networks, ports, restart};
use crate::error::ApiError;
use crate::query::Params;
use crate::version::ApiVersion;

/// What stands for a moment that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// `/dev/shm` when nobody asked for another size, in bytes.
const SHM_BYTES: u64 = 64 << 20;

/// Docker's answer, and what only hull knows.
#[derive(Serialize)]
pub(super) struct Inspection {
    #[serde(flatten)]
    docker: Complete<ContainerInspectResponse>,
    #[serde(rename = "HostConfig")]
    host_config: Complete<HostConfig>,
    #[serde(rename = "Config")]
    config: Complete<ContainerConfig>,
    #[serde(rename = "NetworkSettings")]
    network_settings: Value,
    #[serde(rename = "Hull")]
    hull: Hull,
}

/// The microVM of a container.
#[derive(Serialize)]
struct Hull {
    #[serde(rename = "Vm")]
    vm: VmSize,
    /// Microseconds from the request to start to each step.
    #[serde(rename = "Timeline")]
    timeline: Timeline,
}

/// `GET /containers/{name}/json`
pub(super) async fn inspect(
    State(engine): State<Engine>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Inspection>, ApiError> {
    let container = engine.inspect(&name).await?;
    let sizes = match params.flag("size") {
        true => {
            engine
                .container_sizes(std::slice::from_ref(&container.id))
                .await?
        }
        false => HashMap::new(),
    };
    let sizes = sizes.get(&container.id).copied();
    describe(container, sizes, version).map(Json)
}

fn describe(
    container: Container,
    sizes: Option<ContainerSizes>,
    version: ApiVersion,
) -> Result<Inspection, ApiError> {
    let hull = Hull {
        vm: container.vm,
        timeline: container.timeline,
    };
    let network_settings = endpoints::network_settings(&container, version);
    let mut args = container.args.iter().cloned();
    let docker = ContainerInspectResponse {
        created: Some(container.created.to_string()),
        path: Some(args.next().unwrap_or_default()),
        args: Some(args.collect()),
        state: Some(describe_state(&container.state, container.health.as_ref())),
        image: Some(container.image_id.clone()),
        resolv_conf_path: Some(String::new()),
        hostname_path: Some(String::new()),
        hosts_path: Some(String::new()),
        log_path: Some(container.log_path.display().to_string()),
        name: Some(format!("/{}", container.name)),
        restart_count: Some(i64::from(container.state.restarts)),
        driver: Some("erofs".into()),
        platform: Some("linux".into()),
        mount_label: Some(String::new()),
        process_label: Some(String::new()),
        app_armor_profile: Some(String::new()),
        exec_ids: Some(container.exec_ids).filter(|ids| !ids.is_empty()),
        mounts: Some(container.mounts.iter().map(describe_mount).collect()),
        graph_driver: Some(DriverData {
            name: "erofs".into(),
            data: HashMap::from([("Disk".to_owned(), container.disk_path.display().to_string())]),
        }),
        size_rw: sizes.map(|sizes| number(sizes.written)),
        size_root_fs: sizes.and_then(|sizes| sizes.root).map(number),
        id: Some(container.id.clone()),
        ..ContainerInspectResponse::default()
    };
    let links = networks::describe_links(&container.config, &container.name);
    let host_config = HostConfig {
        links,
        ..describe_host(&container.config, &container.mounts)
    };
    let privileged = container.config.privileged;
    let config = describe_config(container.config, &container.id);
    Ok(Inspection {
        docker: Complete::new(docker, json!({ "ExecIDs": null }))?,
        host_config: Complete::new(host_config, complete::host_config(privileged))?,
        config: Complete::new(config, complete::config())?,
        network_settings,
        hull,
    })
}

fn describe_state(state: &engine::ContainerState, health: Option<&engine::Health>) -> ContainerState {
    let moment = |moment: Option<Timestamp>| moment.map_or_else(|| NEVER.into(), |moment| moment.to_string());
    ContainerState {
        status: Some(match state.status {
            Status::Created => ContainerStateStatusEnum::CREATED,
            Status::Running => ContainerStateStatusEnum::RUNNING,
            Status::Paused => ContainerStateStatusEnum::PAUSED,
            Status::Exited => ContainerStateStatusEnum::EXITED,
            Status::Restarting => ContainerStateStatusEnum::RESTARTING,
            Status::Removing => ContainerStateStatusEnum::REMOVING,
        }),
        // To Docker one that is started again runs on.
        running: Some(matches!(
            state.status,
            Status::Running | Status::Paused | Status::Restarting
        )),
        paused: Some(state.status == Status::Paused),
        restarting: Some(state.status == Status::Restarting),
        oom_killed: Some(state.oom_killed),
        dead: Some(false),
        pid: Some(state.pid.map_or(0, i64::from)),
        exit_code: Some(i64::from(state.exit_code)),
        error: Some(state.error.clone()),
        started_at: Some(moment(state.started_at)),
        finished_at: Some(moment(state.finished_at)),
        health: health.map(describe_health),
    }
}

fn describe_health(health: &engine::Health) -> Health {
    let describe = |result: &engine::HealthResult| HealthcheckResult {
        start: Some(result.start.to_string()),
        end: Some(result.end.to_string()),
        exit_code: Some(i64::from(result.exit_code)),
        output: Some(result.output.clone()),
    };
    Health {
        status: Some(match health.status {
            HealthStatus::Starting => HealthStatusEnum::STARTING,
            HealthStatus::Healthy => HealthStatusEnum::HEALTHY,
            HealthStatus::Unhealthy => HealthStatusEnum::UNHEALTHY,
        }),
        failing_streak: Some(i64::from(health.failing_streak)),
        log: Some(health.log.iter().map(describe).collect()),
    }
}

fn describe_config(config: ContainerCreate, id: &str) -> ContainerConfig {
    let keys = |keys: Vec<String>| Some(keys).filter(|keys| !keys.is_empty());
    ContainerConfig {
        hostname: Some(if config.hostname.is_empty() {
            id.chars().take(12).collect()
        } else {
            config.hostname
        }),
        domainname: Some(config.domain_name),
        user: Some(config.user),
        attach_stdin: Some(config.attach.stdin),
        attach_stdout: Some(config.attach.stdout),
        attach_stderr: Some(config.attach.stderr),
        exposed_ports: keys(config.exposed_ports.into_iter().collect()),
        tty: Some(config.terminal),
        open_stdin: Some(config.open_stdin),
        stdin_once: Some(config.stdin_once),
        env: Some(config.env),
        cmd: config.command,
        image: Some(config.image),
        working_dir: Some(config.working_dir),
        volumes: keys(config.volumes.into_iter().collect()),
        entrypoint: config.entrypoint,
        labels: Some(config.labels.into_iter().collect()),
        healthcheck: health::describe(&config.health),
        shell: Some(config.shell).filter(|shell| !shell.is_empty()),
        stop_signal: Some(config.stop_signal).filter(|signal| !signal.is_empty()),
        stop_timeout: config.stop_timeout.map(i64::from),
        ..ContainerConfig::default()
    }
}

fn describe_host(config: &ContainerCreate, mounts: &[engine::MountPoint]) -> HostConfig {
    let list = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
    let shm_bytes = if config.shm_bytes == 0 {
        SHM_BYTES
    } else {
        config.shm_bytes
    };
    HostConfig {
        cpu_shares: Some(number(config.resources.cpu_shares)),
        memory: Some(number(config.resources.memory_bytes)),
        memory_reservation: Some(number(config.resources.memory_reservation_bytes)),
        memory_swap: Some(memory_swap(&config.resources)),
        oom_kill_disable: Some(config.oom_kill_disable),
        nano_cpus: Some(number(config.resources.nano_cpus)),
        cpu_quota: Some(number(config.resources.cpu_quota_us)),
        cpu_period: Some(number(config.resources.cpu_period_us)),
        cpuset_cpus: Some(config.cpuset_cpus.clone()),
        cpuset_mems: Some(config.cpuset_mems.clone()),
        pids_limit: Some(number(config.resources.pids)).filter(|&pids| pids != 0),
        init: config.init.then_some(true),
        ulimits: Some(config.rlimits.iter().map(describe_limit).collect()),
        binds: binds(config, mounts),
        volumes_from: list(&config.volumes_from.iter().map(volumes_from).collect()),
        tmpfs: tmpfs(mounts),
        container_id_file: Some(String::new()),
        log_config: Some(log::describe(&config.log)),
        network_mode: Some(networks::describe_mode(config).to_owned()),
        port_bindings: Some(ports::describe(&config.ports)),
        restart_policy: Some(restart::describe(config.restart)),
        auto_remove: Some(config.auto_remove),
        cap_add: list(&config.cap_add),
        cap_drop: list(&config.cap_drop),
        devices: Some(config.devices.iter().map(devices::describe).collect()),
        device_cgroup_rules: list(&config.device_rules.iter().map(devices::describe_rule).collect()),
        annotations: map(&config.annotations),
        storage_opt: map(&config.storage),
        cgroupns_mode: Some(match config.guest_cgroups {
            true => HostConfigCgroupnsModeEnum::HOST,
            false => HostConfigCgroupnsModeEnum::PRIVATE,
        }),
        dns: Some(config.dns.clone()),
        dns_options: Some(config.dns_options.clone()),
        dns_search: Some(config.dns_search.clone()),
        extra_hosts: list(&config.extra_hosts),
        group_add: list(&config.groups),
        ipc_mode: Some(modes::describe_ipc(config).into()),
        userns_mode: config.guest_users.then(|| "host".into()),
        oom_score_adj: Some(i64::from(config.oom_score_adj)),
        privileged: Some(config.privileged),
        publish_all_ports: Some(config.publish_all),
        readonly_rootfs: Some(config.read_only),
        security_opt: security_options(config),
        shm_size: Some(number(shm_bytes)),
        sysctls: Some(config.sysctls.clone().into_iter().collect())
            .filter(|sysctls: &HashMap<_, _>| !sysctls.is_empty()),
        runtime: Some("hull".into()),
        masked_paths: paths(config.masked_paths.as_ref(), engine::MASKED_PATHS),
        readonly_paths: paths(config.read_only_paths.as_ref(), engine::READ_ONLY_PATHS),
        ..HostConfig::default()
    }
}

fn map(map: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    Some(map.clone().into_iter().collect()).filter(|map: &HashMap<_, _>| !map.is_empty())
}

/// The paths asked for, or those that every container has.
fn paths(asked: Option<&Vec<String>>, standard: &[&str]) -> Option<Vec<String>> {
    let standard = || standard.iter().map(|&path| path.to_owned()).collect();
    Some(asked.cloned().unwrap_or_else(standard))
}

/// Memory and swap. Where nothing is said of swap there is none.
fn memory_swap(resources: &engine::Resources) -> i64 {
    match resources.memory_swap_bytes {
        0 => number(resources.memory_bytes),
        bytes => bytes,
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn describe_limit(limit: &Rlimit) -> ResourcesUlimits {
    let bound = |value| if value == u64::MAX { -1 } else { number(value) };
    ResourcesUlimits {
        name: Some(limit.name.clone()),
        soft: Some(bound(limit.soft)),
        hard: Some(bound(limit.hard)),
    }
}

/// What is told of a container that was asked for like this, as a create request has it.
#[cfg(any(test, fuzzing))]
pub(crate) fn described(config: ContainerCreate) -> serde_json::Value {
    let mut host = describe_host(&config, &[]);
    host.links = networks::describe_links(&config, "own");
    let endpoints = config.endpoints.iter();
    let endpoints: HashMap<_, _> = endpoints
        .map(|(name, endpoint)| (name.clone(), networks::describe_endpoint(endpoint)))
        .collect();
    let mut told = json!(describe_config(config, "0123456789ab"));
    told["HostConfig"] = json!(host);
    told["NetworkingConfig"] = json!({ "EndpointsConfig": endpoints });
    told
}

/// What was asked for with `-v`; what comes from the image or another container is not among it.
fn binds(config: &ContainerCreate, mounts: &[engine::MountPoint]) -> Option<Vec<String>> {
    let asked = |mount: &&engine::MountPoint| {
        let is_asked = |asked: &MountCreate| asked.target.trim_end_matches('/') == mount.target;
        config.mounts.iter().any(is_asked)
    };
    let source = |mount: &engine::MountPoint| match mount.kind {
        MountKind::Bind => Some(mount.source.display().to_string()),
        MountKind::Volume => Some(mount.name.clone()),
        MountKind::Tmpfs => None,
    };
    let binds = mounts.iter().filter(asked).filter_map(|mount| {
        let mode = if mount.read_only { ":ro" } else { "" };
        Some(format!("{}:{}{mode}", source(mount)?, mount.target))
    });
    Some(binds.collect()).filter(|binds: &Vec<_>| !binds.is_empty())
}

fn volumes_from(from: &VolumesFrom) -> String {
    let mode = if from.read_only { ":ro" } else { "" };
    format!("{}{mode}", from.container)
}

fn tmpfs(mounts: &[engine::MountPoint]) -> Option<HashMap<String, String>> {
    let tmpfs = mounts.iter().filter(|mount| mount.kind == MountKind::Tmpfs);
    let tmpfs = tmpfs.map(|mount| (mount.target.clone(), mount.options.clone()));
    Some(tmpfs.collect()).filter(|tmpfs: &HashMap<_, _>| !tmpfs.is_empty())
}

fn security_options(config: &ContainerCreate) -> Option<Vec<String>> {
    let flags = [
        (config.no_new_privileges, "no-new-privileges"),
        (config.seccomp_unconfined, "seccomp=unconfined"),
    ];
    let flags = flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, option)| option.to_owned());
    let profile = config.seccomp_profile.as_ref();
    let profile = profile.map(|profile| format!("seccomp={profile}"));
    Some(flags.chain(profile).collect()).filter(|options: &Vec<_>| !options.is_empty())
}

/// A mount as lists and inspections show it.
pub(super) fn describe_mount(mount: &engine::MountPoint) -> MountPoint {
    let name = Some(mount.name.clone()).filter(|name| !name.is_empty());
    let (kind, driver) = match mount.kind {
        MountKind::Bind => ("bind", None),
        MountKind::Volume => ("volume", Some("local".into())),
        MountKind::Tmpfs => ("tmpfs", None),
    };
    MountPoint {
        typ: Some(kind.into()),
        name,
        source: Some(mount.source.display().to_string()),
        destination: Some(mount.target.clone()),
        driver,
        mode: Some(if mount.read_only {
            "ro".into()
        } else {
            String::new()
        }),
        rw: Some(!mount.read_only),
        propagation: Some(if mount.kind == MountKind::Bind {
            "rprivate".into()
        } else {
            String::new()
        }),
    }
}
