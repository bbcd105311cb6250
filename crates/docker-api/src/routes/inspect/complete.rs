//! Fields that Docker tells of every container, whatever it is: clients take it that they are there.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// A part of an answer with all fields that Docker's has.
#[derive(Serialize)]
pub(super) struct Complete<T> {
    #[serde(flatten)]
    told: T,
    /// Those that `told` leaves out.
    #[serde(flatten)]
    untold: Map<String, Value>,
}

impl<T: Serialize> Complete<T> {
    /// Adds what is not told, as it is by default.
    pub(super) fn new(told: T, defaults: Value) -> Result<Self, ApiError> {
        let failed = |error| {
            ApiError::new(
                axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                format!("the answer cannot be written: {error}"),
            )
        };
        let known = serde_json::to_value(&told).map_err(failed)?;
        let mut untold = match defaults {
            Value::Object(defaults) => defaults,
            _ => Map::new(),
        };
        untold.retain(|name, _| known.get(name).is_none());
        Ok(Self { told, untold })
    }
}

/// `HostConfig` of a container of which nothing was asked. A privileged one has no hidden paths.
pub(super) fn host_config(privileged: bool) -> Value {
    let paths = |paths: &[&str]| match privileged {
        true => Value::Null,
        false => json!(paths),
    };
    let mut defaults = json!({
        "Binds": null,
        "BlkioDeviceReadBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceWriteIOps": [],
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "CapAdd": null,
        "CapDrop": null,
        "Cgroup": "",
        "CgroupParent": "",
        "ConsoleSize": [0, 0],
        "CpuCount": 0,
        "CpuPercent": 0,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "Devices": [],
        "ExtraHosts": null,
        "GroupAdd": null,
        "IOMaximumBandwidth": 0,
        "IOMaximumIOps": 0,
        "Isolation": "",
        "Links": null,
        "MemoryReservation": 0,
        "MemorySwap": 0,
        "MemorySwappiness": null,
        "OomKillDisable": null,
        "PidMode": "",
        "PidsLimit": null,
        "SecurityOpt": null,
        "UTSMode": "",
        "UsernsMode": "",
        "VolumeDriver": "",
        "VolumesFrom": null,
    });
    defaults["MaskedPaths"] = paths(engine::MASKED_PATHS);
    defaults["ReadonlyPaths"] = paths(engine::READ_ONLY_PATHS);
    defaults
}

/// `Config` of a container of which nothing is known.
pub(super) fn config() -> Value {
    json!({
        "Cmd": null,
        "Entrypoint": null,
        "OnBuild": null,
        "Volumes": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_stubs::models::HostConfig;

    #[test]
    fn what_is_told_stays_and_what_is_not_is_as_by_default() {
        let host = HostConfig {
            cap_add: Some(vec!["NET_ADMIN".into()]),
            memory: Some(7),
            ..HostConfig::default()
        };
        let host = serde_json::to_string(&Complete::new(host, host_config(false)).unwrap()).unwrap();
        assert_eq!(host.matches("\"CapAdd\"").count(), 1);
        let host: Value = serde_json::from_str(&host).unwrap();
        assert_eq!(
            (&host["CapAdd"], &host["Memory"]),
            (&json!(["NET_ADMIN"]), &json!(7))
        );
        assert_eq!((&host["Binds"], &host["Devices"]), (&Value::Null, &json!([])));
        assert!(host.get("Binds").is_some());
        assert!(
            host["MaskedPaths"]
                .as_array()
                .unwrap()
                .contains(&json!("/proc/kcore"))
        );
        assert_eq!(host_config(true)["MaskedPaths"], Value::Null);
        // It can be read as what it is.
        serde_json::from_value::<HostConfig>(host).unwrap();
    }
}
