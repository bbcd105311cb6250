//! What an inspection tells of options that nobody set and that have no effect here. Docker's answers have them all, and clients
//! read them without looking whether they are there.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// Adds what is missing of a container's inspection.
pub(super) fn fill(inspection: &mut Value) {
    add(inspection, &DEFAULTS);
}

static DEFAULTS: LazyLock<Value> = LazyLock::new(|| {
    let text = r#"{
        "ExecIDs": null,
        "GraphDriver": { "Name": "erofs", "Data": null },
        "Config": {
            "Cmd": null, "Entrypoint": null, "OnBuild": null, "Volumes": null
        },
        "HostConfig": {
            "Binds": null, "BlkioDeviceReadBps": [], "BlkioDeviceReadIOps": [], "BlkioDeviceWriteBps": [],
            "BlkioDeviceWriteIOps": [], "BlkioWeight": 0, "BlkioWeightDevice": [], "CapAdd": null, "CapDrop": null,
            "Cgroup": "", "CgroupParent": "", "ConsoleSize": [0, 0], "CpuCount": 0, "CpuPercent": 0, "CpuPeriod": 0,
            "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "",
            "DeviceCgroupRules": null, "DeviceRequests": null, "Devices": [], "ExtraHosts": null, "GroupAdd": null,
            "IOMaximumBandwidth": 0, "IOMaximumIOps": 0, "Isolation": "", "Links": null, "MaskedPaths": null,
            "MemoryReservation": 0, "MemorySwappiness": null, "OomKillDisable": false, "PidMode": "",
            "PidsLimit": null, "ReadonlyPaths": null, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "VolumeDriver": "", "VolumesFrom": null
        },
        "NetworkSettings": {
            "Bridge": "", "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "HairpinMode": false, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0, "MacAddress": "", "SandboxID": "", "SandboxKey": "",
            "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null
        }
    }"#;
    serde_json::from_str(text).expect("it is JSON")
});

fn add(value: &mut Value, defaults: &Value) {
    if let (Value::Object(fields), Value::Object(defaults)) = (value, defaults) {
        for (name, default) in defaults {
            add_field(fields, name, default);
        }
    }
}

fn add_field(fields: &mut Map<String, Value>, name: &str, default: &Value) {
    match fields.get_mut(name) {
        Some(field) => add(field, default),
        None => drop(fields.insert(name.to_owned(), default.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_added_and_what_is_there_stays() {
        let mut inspection =
            json!({ "Id": "x", "HostConfig": { "PidMode": "host", "New": 1 }, "ExecIDs": ["y"] });
        fill(&mut inspection);
        assert_eq!(inspection["HostConfig"]["PidMode"], "host");
        assert_eq!(inspection["HostConfig"]["New"], 1);
        assert_eq!(inspection["HostConfig"].get("CapAdd"), Some(&Value::Null));
        assert_eq!(inspection["ExecIDs"], json!(["y"]));
        assert_eq!(inspection["NetworkSettings"]["IPAddress"], "");
    }
}
