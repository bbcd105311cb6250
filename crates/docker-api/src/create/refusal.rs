//! What a create request may ask for.
//!
//! The body is walked as JSON before it is read into types: an option that is not listed here, known to Docker or not,
//! passes only while it is empty. So nothing that a client asks for is silently left out.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Options of the container that are carried out whatever their value is, or whose value is checked where it is read.
const CONTAINER: &[&str] = &[
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Domainname",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "HostConfig",
    "Hostname",
    "Image",
    "Labels",
    "MacAddress",
    "NetworkDisabled",
    "NetworkingConfig",
    "OpenStdin",
    "Shell",
    "StdinOnce",
    "StopSignal",
    "StopTimeout",
    "Tty",
    "User",
    "Volumes",
    "WorkingDir",
];

/// The same for the `HostConfig`.
const HOST: &[&str] = &[
    "Annotations",
    "AutoRemove",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "CapAdd",
    "CapDrop",
    "CgroupnsMode",
    "ConsoleSize",     // the client resizes the terminal once the container runs
    "ContainerIDFile", // written by the client
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "DeviceCgroupRules",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Init",
    "IpcMode",
    "Isolation",
    "Links",
    "LogConfig",
    "MaskedPaths",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "Mounts",
    "NanoCpus",
    "NetworkMode",
    "OomKillDisable",
    "OomScoreAdj",
    "PidMode",
    "PidsLimit",
    "PortBindings",
    "Privileged",
    "PublishAllPorts",
    "ReadonlyPaths",
    "ReadonlyRootfs",
    "RestartPolicy",
    "Runtime",
    "SecurityOpt",
    "ShmSize",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "UTSMode",
    "Ulimits",
    "UsernsMode",
    "VolumeDriver",
    "VolumesFrom",
];

/// The same for an update.
const UPDATE: &[&str] = &[
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
    "RestartPolicy",
];

/// The same for one of `HostConfig.Mounts`.
const MOUNT: &[&str] = &[
    "BindOptions",
    "Consistency",
    "ReadOnly",
    "Source",
    "Target",
    "TmpfsOptions",
    "Type",
    "VolumeOptions",
];

/// The same for a container's place in a network, and what an inspection tells of one.
const ENDPOINT: &[&str] = &[
    "Aliases",
    "DNSNames",
    "DriverOpts",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "GwPriority",
    "IPAMConfig",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "Links",
    "MacAddress",
    "NetworkID",
];

/// The same for the addresses of such a place.
const ADDRESSES: &[&str] = &["IPv4Address", "IPv6Address"];

/// The docker CLI's names of options that are refused, for people who never see the API's.
const FLAGS: &[(&str, &str)] = &[
    ("BlkioWeight", "--blkio-weight"),
    ("BlkioWeightDevice", "--blkio-weight-device"),
    ("CgroupParent", "--cgroup-parent"),
    ("DeviceRequests", "--gpus"),
    ("IpcMode", "--ipc"),
    ("LinkLocalIPs", "--link-local-ip"),
    ("MemorySwappiness", "--memory-swappiness"),
    ("NetworkMode", "--network"),
    ("PidMode", "--pid"),
    ("SecurityOpt", "--security-opt"),
    ("UTSMode", "--uts"),
    ("UsernsMode", "--userns"),
];

/// Why some of them cannot be had at all, with a kernel of its own for each container.
const NEVER: &[(&str, &str)] = &[
    (
        "BlkioWeight",
        "a container is alone with its disk, and nobody is there to be weighed against",
    ),
    (
        "BlkioWeightDevice",
        "a container is alone with its disk, and nobody is there to be weighed against",
    ),
    ("CgroupParent", "the cgroup of a container is in its microVM"),
    (
        "IpcMode",
        "each container has a kernel of its own, and shares no memory with others",
    ),
    (
        "PidMode",
        "each container has a kernel of its own, and sees no processes of others",
    ),
    (
        "UTSMode",
        "each container has a kernel of its own, and the name of the host is not known to it",
    ),
];

/// The refusal of an option, or of one of its values.
pub(super) fn unsupported(option: &str, value: Option<&str>) -> ApiError {
    let never = NEVER.iter().find(|(name, _)| *name == option);
    refused(option, value, never.map(|(_, why)| *why))
}

/// The same with the reason for it, where it cannot be had at all.
pub(super) fn refused(option: &str, value: Option<&str>, why: Option<&str>) -> ApiError {
    let flag = FLAGS.iter().find(|(name, _)| *name == option);
    let flag = flag.map(|(_, flag)| format!(" ({flag})")).unwrap_or_default();
    let value = value.map(|value| format!(" `{value}`")).unwrap_or_default();
    let why = why.map_or(" yet".to_owned(), |why| format!(": {why}"));
    ApiError::bad_request(format!("hull does not support {option}{value}{flag}{why}"))
}

/// Refuses a create request that asks for something hull does not do.
pub(super) fn check(body: &Value) -> Result<(), ApiError> {
    let container = object("the body", body)?;
    only(container, CONTAINER)?;
    if let Some(host) = container.get("HostConfig").filter(|host| !host.is_null()) {
        let host = object("HostConfig", host)?;
        only(host, HOST)?;
        let mounts = host.get("Mounts").and_then(Value::as_array);
        for mount in mounts.into_iter().flatten() {
            only(object("Mounts", mount)?, MOUNT)?;
        }
    }
    Ok(())
}

/// Refuses an update that asks for something hull does not do.
pub(super) fn check_update(body: &Value) -> Result<(), ApiError> {
    only(object("the body", body)?, UPDATE)
}

/// Refuses what a container's place in a network cannot be.
pub(super) fn check_endpoint(settings: &Value) -> Result<(), ApiError> {
    if settings.is_null() {
        return Ok(());
    }
    let settings = object("the configuration of an endpoint", settings)?;
    only(settings, ENDPOINT)?;
    match settings
        .get("IPAMConfig")
        .filter(|addresses| !addresses.is_null())
    {
        Some(addresses) => only(object("IPAMConfig", addresses)?, ADDRESSES),
        None => Ok(()),
    }
}

fn object<'a>(what: &str, value: &'a Value) -> Result<&'a Map<String, Value>, ApiError> {
    value
        .as_object()
        .ok_or_else(|| ApiError::bad_request(format!("invalid JSON: {what} is not an object")))
}

fn only(options: &Map<String, Value>, supported: &[&str]) -> Result<(), ApiError> {
    let refused = options
        .iter()
        .find(|(name, value)| !supported.contains(&name.as_str()) && !is_empty(value));
    match refused {
        Some((name, _)) => Err(unsupported(name, None)),
        None => Ok(()),
    }
}

/// Whether a value is what Go encodes when nothing was set.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(body: Value) -> String {
        check(&body).unwrap_err().message().to_owned()
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_names() {
        let host = |host: Value| json!({"Image": "busybox", "HostConfig": host});
        assert_eq!(
            refusal(host(json!({"CgroupParent": "/x"}))),
            "hull does not support CgroupParent (--cgroup-parent): the cgroup of a container is in its microVM"
        );
        assert_eq!(
            refusal(host(json!({"DeviceRequests": [{"Count": -1}]}))),
            "hull does not support DeviceRequests (--gpus) yet"
        );
        assert_eq!(
            refusal(json!({"OnBuild": ["RUN x"]})),
            "hull does not support OnBuild yet"
        );
    }

    #[test]
    fn an_option_nobody_has_heard_of_is_refused_unless_it_is_empty() {
        assert_eq!(
            refusal(json!({"Image": "busybox", "HostConfig": {"Novelty": 1}})),
            "hull does not support Novelty yet"
        );
        assert_eq!(check(&json!({"Novelty": {"A": [], "B": {"C": ""}}})), Ok(()));
    }

    #[test]
    fn what_is_asked_of_a_place_in_a_network_is_looked_at() {
        for settings in [
            json!(null),
            json!({"Aliases": null, "GwPriority": 1, "MacAddress": "x"}),
        ] {
            assert_eq!(check_endpoint(&settings), Ok(()));
        }
        for (settings, message) in [
            (
                json!({"IPAMConfig": {"LinkLocalIPs": ["169.254.0.9"]}}),
                "hull does not support LinkLocalIPs (--link-local-ip) yet",
            ),
            (json!({"Novelty": 1}), "hull does not support Novelty yet"),
        ] {
            assert_eq!(check_endpoint(&settings).unwrap_err().message(), message);
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        assert!(refusal(json!([])).contains("not an object"));
        assert!(refusal(json!({"HostConfig": "x"})).contains("not an object"));
        assert!(refusal(json!({"HostConfig": {"Mounts": [1]}})).contains("not an object"));
    }
}
