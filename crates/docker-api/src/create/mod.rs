//! A create request of the Docker Engine API as the engine's [`ContainerCreate`].

pub(crate) mod devices;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod modes;
mod mounts;
pub(crate) mod networks;
pub(crate) mod ports;
mod refusal;
pub(crate) mod restart;
#[cfg(any(test, fuzzing))]
pub(crate) mod round_trip;
mod update;

use std::collections::BTreeMap;

use bollard_stubs::models::{ContainerCreateBody, HostConfig, ResourcesUlimits, ThrottleDevice};
use engine::{AttachFlags, ContainerCreate, IoLimits, NO_NETWORK, Resources, Rlimit};
use serde_json::Value;

use self::modes::Modes;
use self::networks::Networking;
use self::refusal::unsupported;
pub(crate) use self::update::read_update;
use crate::body::typed;
use crate::error::ApiError;

/// Reads the body of `POST /containers/create`.
///
/// Every option either reaches the engine, or has no effect by its nature, or is refused by its name.
pub(crate) fn read(mut body: Value, name: Option<&str>) -> Result<ContainerCreate, ApiError> {
    refusal::check(&body)?;
    let restart = restart::take(body.get_mut("HostConfig"))?.unwrap_or_default();
    let mut take = |name: &str| body.get_mut(name).map(Value::take).unwrap_or_default();
    let endpoints = take("NetworkingConfig");
    // Older clients name an address for the container as a whole, which the types do not know any more.
    let mac: Option<String> = typed(take("MacAddress"))?;
    let body: ContainerCreateBody = typed(lists_from_text(body))?;
    let mut host = body.host_config.clone().unwrap_or_default();
    check_modes(&host)?;
    let modes = Modes::read(&host)?;
    let io = io_limits(&host)?;
    if body.network_disabled.unwrap_or_default() {
        host.network_mode = Some(NO_NETWORK.into());
    }
    let networking = Networking::read(endpoints, &host, mac.as_deref())?;
    let security = Security::read(host.security_opt.as_deref().unwrap_or_default())?;
    Ok(ContainerCreate {
        of_build: false,
        name: name.map(|name| name.strip_prefix('/').unwrap_or(name).to_owned()),
        mounts: mounts::read(&host)?,
        volumes: body.volumes.unwrap_or_default().into_iter().collect(),
        volumes_from: mounts::read_volumes_from(host.volumes_from.as_deref().unwrap_or_default())?,
        image: body.image.unwrap_or_default(),
        entrypoint: body.entrypoint.map(without_lone_blank),
        command: body.cmd.filter(|command| !command.is_empty()),
        env: body.env.unwrap_or_default(),
        working_dir: body.working_dir.unwrap_or_default(),
        user: body.user.unwrap_or_default(),
        groups: host.group_add.unwrap_or_default(),
        hostname: body.hostname.unwrap_or_default(),
        domain_name: body.domainname.unwrap_or_default(),
        labels: body.labels.unwrap_or_default().into_iter().collect(),
        exposed_ports: body.exposed_ports.unwrap_or_default().into_iter().collect(),
        terminal: body.tty.unwrap_or_default(),
        open_stdin: body.open_stdin.unwrap_or_default(),
        stdin_once: body.stdin_once.unwrap_or_default(),
        attach: AttachFlags {
            stdin: body.attach_stdin.unwrap_or_default(),
            stdout: body.attach_stdout.unwrap_or_default(),
            stderr: body.attach_stderr.unwrap_or_default(),
        },
        health: health::read(body.healthcheck.unwrap_or_default())?,
        shell: body.shell.unwrap_or_default(),
        stop_signal: body.stop_signal.unwrap_or_default(),
        stop_timeout: body.stop_timeout.map(stop_timeout).transpose()?,
        auto_remove: host.auto_remove.unwrap_or_default(),
        restart,
        read_only: host.readonly_rootfs.unwrap_or_default(),
        init: host.init.unwrap_or_default(),
        privileged: host.privileged.unwrap_or_default(),
        devices: host
            .devices
            .unwrap_or_default()
            .into_iter()
            .map(devices::read)
            .collect::<Result<_, _>>()?,
        device_rules: host
            .device_cgroup_rules
            .unwrap_or_default()
            .iter()
            .map(|rule| devices::read_rule(rule))
            .collect::<Result<_, _>>()?,
        cap_add: host.cap_add.unwrap_or_default(),
        cap_drop: host.cap_drop.unwrap_or_default(),
        no_new_privileges: security.no_new_privileges,
        seccomp_unconfined: security.seccomp_unconfined,
        seccomp_profile: security.seccomp_profile,
        shm_bytes: not_negative("ShmSize", host.shm_size)?,
        resources: Resources {
            memory_bytes: not_negative("Memory", host.memory)?,
            memory_reservation_bytes: not_negative("MemoryReservation", host.memory_reservation)?,
            memory_swap_bytes: memory_swap(host.memory, host.memory_swap)?,
            nano_cpus: not_negative("NanoCpus", host.nano_cpus)?,
            cpu_quota_us: cpu_quota(host.cpu_quota)?,
            cpu_period_us: not_negative("CpuPeriod", host.cpu_period)?,
            cpu_shares: not_negative("CpuShares", host.cpu_shares)?,
            pids: host.pids_limit.map_or(0, |pids| u64::try_from(pids).unwrap_or(0)), // -1 is no limit
        },
        io,
        oom_kill_disable: host.oom_kill_disable.unwrap_or_default(),
        rlimits: host
            .ulimits
            .unwrap_or_default()
            .into_iter()
            .map(rlimit)
            .collect::<Result<_, _>>()?,
        sysctls: host
            .sysctls
            .unwrap_or_default()
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        dns: host.dns.unwrap_or_default(),
        dns_search: host.dns_search.unwrap_or_default(),
        dns_options: host.dns_options.unwrap_or_default(),
        oom_score_adj: oom_score_adj(host.oom_score_adj.unwrap_or_default())?,
        masked_paths: host.masked_paths,
        read_only_paths: host.readonly_paths,
        log: log::read(host.log_config)?,
        cpuset_cpus: host.cpuset_cpus.unwrap_or_default(),
        cpuset_mems: host.cpuset_mems.unwrap_or_default(),
        annotations: host.annotations.unwrap_or_default().into_iter().collect(),
        ipc: modes.ipc,
        guest_cgroups: modes.guest_cgroups,
        guest_users: modes.guest_users,
        storage: host.storage_opt.unwrap_or_default().into_iter().collect(),
        no_network: networking.no_network,
        network: networking.network,
        endpoints: networking.endpoints,
        left_networks: false,
        links: networking.links,
        ports: ports::read(host.port_bindings.unwrap_or_default())?,
        publish_all: host.publish_all_ports.unwrap_or_default(),
    })
}

/// Docker takes a text where a command is a list, and makes it the list's only item.
pub(crate) fn lists_from_text(mut body: Value) -> Value {
    for name in ["Cmd", "Entrypoint"] {
        if let Some(value @ Value::String(_)) = body.get_mut(name) {
            *value = Value::Array(vec![value.take()]);
        }
    }
    body
}

/// `--entrypoint ""` arrives as a list of one empty text and clears the image's entrypoint.
fn without_lone_blank(entrypoint: Vec<String>) -> Vec<String> {
    if entrypoint == [""] {
        Vec::new()
    } else {
        entrypoint
    }
}

/// Refuses modes of which only some values, or one, can be had.
fn check_modes(host: &HostConfig) -> Result<(), ApiError> {
    match host.volume_driver.as_deref() {
        None | Some("" | "local") => {}
        Some(driver) => return Err(unsupported("VolumeDriver", Some(driver))),
    }
    match host.runtime.as_deref() {
        None | Some("" | "hull") => {}
        Some(runtime) => {
            return Err(ApiError::bad_request(format!(
                "unknown or invalid runtime name: {runtime}"
            )));
        }
    }
    check_swappiness(host)
}

/// A microVM has no swap, so nothing can be more or less prone to it.
fn check_swappiness(host: &HostConfig) -> Result<(), ApiError> {
    let swappiness = host.memory_swappiness.unwrap_or(-1);
    if !matches!(swappiness, -1 | 0) {
        return Err(unsupported("MemorySwappiness", Some(&swappiness.to_string())));
    }
    Ok(())
}

/// What `SecurityOpt` says.
#[derive(Default)]
struct Security {
    no_new_privileges: bool,
    seccomp_unconfined: bool,
    seccomp_profile: Option<String>,
}

impl Security {
    fn read(options: &[String]) -> Result<Self, ApiError> {
        let mut security = Self::default();
        for option in options {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", profile) => {
                    security.seccomp_unconfined = profile == "unconfined";
                    security.seccomp_profile =
                        (!matches!(profile, "unconfined" | "builtin")).then(|| profile.to_owned());
                }
                // Neither AppArmor nor SELinux is in the guest's kernel.
                ("apparmor", "unconfined") | ("label", "disable") => {}
                _ => return Err(unsupported("SecurityOpt", Some(option))),
            }
        }
        Ok(security)
    }
}

/// Memory and swap together, which cannot be less than the memory alone.
fn memory_swap(memory: Option<i64>, swap: Option<i64>) -> Result<i64, ApiError> {
    let (memory, swap) = (memory.unwrap_or_default(), swap.unwrap_or_default());
    let message = match swap {
        -1 | 0 => return Ok(swap),
        _ if memory == 0 => "You should always set the Memory limit when using Memoryswap limit, see usage",
        swap if swap < memory => "Minimum memoryswap limit should be larger than memory limit, see usage",
        swap => return Ok(swap),
    };
    Err(ApiError::bad_request(message))
}

/// The container has one disk, whichever the request names: where it names several, the lowest rate holds.
fn io_limits(host: &HostConfig) -> Result<IoLimits, ApiError> {
    let lowest = |option, devices: &Option<Vec<ThrottleDevice>>| -> Result<u64, ApiError> {
        let mut lowest = 0;
        for device in devices.iter().flatten() {
            let rate = not_negative(option, device.rate)?;
            lowest = if lowest == 0 { rate } else { lowest.min(rate) };
        }
        Ok(lowest)
    };
    Ok(IoLimits {
        read_bytes: lowest("BlkioDeviceReadBps", &host.blkio_device_read_bps)?,
        write_bytes: lowest("BlkioDeviceWriteBps", &host.blkio_device_write_bps)?,
        reads: lowest("BlkioDeviceReadIOps", &host.blkio_device_read_iops)?,
        writes: lowest("BlkioDeviceWriteIOps", &host.blkio_device_write_iops)?,
    })
}

fn not_negative(option: &str, value: Option<i64>) -> Result<u64, ApiError> {
    let value = value.unwrap_or_default();
    u64::try_from(value)
        .map_err(|_| ApiError::bad_request(format!("invalid value {value} of {option}: it is negative")))
}

/// CPU time of each period in microseconds; -1 is no limit.
fn cpu_quota(quota: Option<i64>) -> Result<u64, ApiError> {
    not_negative("CpuQuota", quota.filter(|&quota| quota != -1))
}

pub(crate) fn rlimit(limit: ResourcesUlimits) -> Result<Rlimit, ApiError> {
    let name = limit.name.unwrap_or_default();
    let (soft, hard) = (limit.soft.unwrap_or_default(), limit.hard.unwrap_or_default());
    let bound = |value| match value {
        -1 => Ok(u64::MAX),
        value => not_negative("Ulimits", Some(value)),
    };
    Ok(Rlimit {
        soft: bound(soft)?,
        hard: bound(hard)?,
        name,
    })
}

fn oom_score_adj(value: i64) -> Result<i32, ApiError> {
    match i32::try_from(value) {
        Ok(score) if (-1000..=1000).contains(&score) => Ok(score),
        _ => Err(ApiError::bad_request(format!(
            "Invalid value {value}, range for oom score adj is [-1000, 1000]"
        ))),
    }
}

fn stop_timeout(seconds: i64) -> Result<u32, ApiError> {
    u32::try_from(seconds).map_err(|_| unsupported("StopTimeout", Some(&seconds.to_string())))
}

#[cfg(test)]
mod tests;
