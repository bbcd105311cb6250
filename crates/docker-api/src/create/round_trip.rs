//! A create request, and what an inspection tells of it, which is a create request again: clients make containers that way that are
//! like others. Mounts are left out, as what is told of them depends on the host.

use engine::ContainerCreate;

use crate::error::ApiError;
use crate::{body, routes};

/// Reads the body of a create request. Panics if what is accepted is not told so that it is accepted again, and the same.
pub(crate) fn check(text: &[u8]) -> Result<ContainerCreate, ApiError> {
    let create = super::read(body::parse(text)?, None)?;
    let told = routes::described(create.clone());
    let again = super::read(told.clone(), None)
        .unwrap_or_else(|refused| panic!("{told} is refused: {}", refused.message()));
    assert_eq!(routes::described(again), told);
    Ok(create)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// Options of the container, each with values that are accepted.
    fn container_options() -> Value {
        json!({
            "AttachStdin": [true], "AttachStdout": [false, true], "Cmd": ["ls", ["ls", "-l"], [], null],
            "Domainname": ["example"], "Entrypoint": [[""], ["sh", "-c"], "sh"], "Env": [["A=1", "B", "=x"], []],
            "ExposedPorts": [{"80/tcp": {}}, null], "Hostname": ["h", ""], "Image": ["busybox", ""],
            "Healthcheck": [
                {"Test": ["CMD", "true"], "Interval": 5_000_000_000_u64, "Retries": 3}, {"Test": ["NONE"]}, {}, null
            ],
            "Labels": [{"a": "b", "": "c"}, {}], "MacAddress": [""],
            "NetworkingConfig": [null, {}, {"EndpointsConfig": {"default": {"Aliases": null, "GwPriority": 0}}}, {"EndpointsConfig": {
                "web": {"IPAMConfig": {"IPv4Address": "10.0.0.5"}, "Aliases": ["a"], "Links": ["db:x", "y"], "GwPriority": -1},
                "back": {"DriverOpts": {"a": "b"}, "IPAMConfig": {"IPv6Address": "fd00::5"}},
            }}],
            "OpenStdin": [true],
            "Shell": [["sh"]], "StdinOnce": [true], "StopSignal": ["SIGINT", "9"], "StopTimeout": [0, 4_294_967_295_u64],
            "NetworkDisabled": [true, false], "Tty": [true], "User": ["1:2", "root"], "WorkingDir": ["/x", ""], "OnBuild": [[]],
        })
    }

    /// The same of its `HostConfig`.
    fn host_options() -> Value {
        json!({
            "AutoRemove": [true, false], "CapAdd": [["NET_ADMIN", "ALL"]], "CapDrop": [["cap_chown"]],
            "CgroupnsMode": ["private", ""], "ConsoleSize": [[24, 80]], "CpuPeriod": [0, 50_000], "CpuQuota": [-1, 75_000],
            "CpuShares": [512], "DeviceCgroupRules": [["c 10:229 rwm", "a *:* r"]],
            "Devices": [[{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw"}]],
            "Dns": [["1.1.1.1"]], "DnsOptions": [["ndots:2"]], "DnsSearch": [["example"]], "ExtraHosts": [["a:1.2.3.4"]],
            "GroupAdd": [["audio", "7"]], "Init": [true, null], "IpcMode": ["private"], "Memory": [0, 67_108_864],
            "MemoryReservation": [33_554_432], "NanoCpus": [0], "NetworkMode": ["default", "none", "bridge", "web", "other"],
            "Links": [["a", "a:b", "/a:/own/b"]], "PublishAllPorts": [true],
            "PortBindings": [{"80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostPort": "1-9"}], "53/udp": null, "9": []}],
            "OomKillDisable": [true], "OomScoreAdj": [-1000, 1000], "PidsLimit": [-1, 0, 100], "Privileged": [true],
            "ReadonlyRootfs": [true], "RestartPolicy": [{"Name": "on-failure", "MaximumRetryCount": 3}, {"Name": ""}],
            "SecurityOpt": [["no-new-privileges", "seccomp=unconfined"], ["label=disable"]], "ShmSize": [0, 1_048_576],
            "Sysctls": [{"net.core.somaxconn": "1"}], "Ulimits": [[{"Name": "nofile", "Soft": 1, "Hard": -1}]],
            "VolumesFrom": [["other:ro"]], "MaskedPaths": [[], ["/proc/x"], null], "ReadonlyPaths": [[]],
        })
    }

    /// JSON of any shape, of which some is right in some place.
    fn nonsense() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::sample::select(vec![-2_i64, -1, 0, 1, 65_536, i64::MIN, i64::MAX]).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z/:=,@0-9\u{0}\u{e9}-]{0,12}".prop_map(Value::from),
        ];
        let name = "(Name|Type|Source|Target|Test|Soft|PathOnHost|[A-Za-z.]{0,6})";
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn some_of(options: Value) -> impl Strategy<Value = Map<String, Value>> {
        prop::sample::subsequence(each(options), 0..12).prop_map(|chosen| chosen.into_iter().collect())
    }

    /// The name of an option, and whether it is one of the `HostConfig`.
    fn name() -> impl Strategy<Value = (String, bool)> {
        let known = |options, in_host| each(options).into_iter().map(move |(name, _)| (name, in_host));
        let others = [
            ("HostConfig", false),
            ("NetworkingConfig", false),
            ("Volumes", false),
            ("Mounts", true),
            ("Binds", true),
            ("Tmpfs", true),
            ("LogConfig", true),
            ("Novelty", true),
            ("Links", true),
            ("NetworkDisabled", false),
        ];
        let others = others
            .into_iter()
            .map(|(name, in_host)| (name.to_owned(), in_host));
        let all = known(container_options(), false)
            .chain(known(host_options(), true))
            .chain(others);
        prop::sample::select(all.collect::<Vec<_>>())
    }

    /// Each option with each value.
    fn each(options: Value) -> Vec<(String, Value)> {
        let Value::Object(options) = options else {
            return Vec::new();
        };
        let pairs = options.into_iter().flat_map(|(name, values)| {
            let values = values.as_array().cloned().unwrap_or_default();
            values.into_iter().map(move |value| (name.clone(), value))
        });
        pairs.collect()
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_told_and_accepted_again(
            container in some_of(container_options()),
            host in some_of(host_options()),
        ) {
            let mut body = container;
            body.insert("HostConfig".to_owned(), host.into());
            let text = Value::Object(body).to_string();
            let read = check(text.as_bytes());
            prop_assert!(read.is_ok(), "{}: {}", text, read.unwrap_err().message());
        }

        #[test]
        fn nonsense_in_any_place_is_refused_or_understood(
            container in some_of(container_options()),
            host in some_of(host_options()),
            (name, in_host) in name(),
            wrong in nonsense(),
        ) {
            let (mut body, mut host) = (container, host);
            if in_host {
                host.insert(name.clone(), wrong.clone());
            }
            body.insert("HostConfig".to_owned(), host.into());
            if !in_host {
                body.insert(name, wrong);
            }
            if let Err(refused) = check(Value::Object(body).to_string().as_bytes()) {
                prop_assert!(!refused.message().is_empty());
            }
        }

        #[test]
        fn any_bytes_are_refused_or_understood(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = check(&bytes);
        }
    }
}
