use std::path::PathBuf;

use engine::{MountCreate, MountSource};
use serde_json::{Value, json};

use super::*;

/// What the docker CLI 28 sends for `docker run --rm busybox echo hello`.
fn docker_run() -> Value {
    serde_json::from_str(include_str!("docker-28-run.json")).unwrap()
}

fn with_host(option: &str, value: Value) -> Value {
    let mut body = docker_run();
    body["HostConfig"][option] = value;
    body
}

fn create(body: Value) -> ContainerCreate {
    read(body, None).unwrap()
}

fn refusal(body: Value) -> String {
    read(body, None).unwrap_err().message().to_owned()
}

#[test]
fn what_docker_run_sends_by_default_passes() {
    let create = create(docker_run());
    let expected = ContainerCreate {
        image: "busybox".into(),
        command: Some(vec!["echo".into(), "hello".into()]),
        attach: AttachFlags {
            stdin: false,
            stdout: true,
            stderr: true,
        },
        auto_remove: true,
        ..ContainerCreate::default()
    };
    assert_eq!(create, expected);
}

#[test]
fn an_entrypoint_is_replaced_cleared_or_left() {
    let entrypoint = |value: Value| create(json!({"Image": "x", "Entrypoint": value})).entrypoint;
    assert_eq!(entrypoint(json!(null)), None);
    assert_eq!(entrypoint(json!([""])), Some(vec![]));
    assert_eq!(entrypoint(json!([])), Some(vec![]));
    assert_eq!(
        entrypoint(json!(["sh", "-c"])),
        Some(vec!["sh".into(), "-c".into()])
    );
    assert_eq!(entrypoint(json!("sh")), Some(vec!["sh".into()]));
}

#[test]
fn a_leading_slash_is_no_part_of_the_name() {
    assert_eq!(
        read(docker_run(), Some("/web")).unwrap().name.as_deref(),
        Some("web")
    );
}

#[test]
fn modes_that_cannot_be_had_are_refused_with_their_value() {
    for (option, value, message) in [
        (
            "PidMode",
            json!("host"),
            "hull does not support PidMode `host` (--pid): each container has a kernel of its own, and sees no processes \
             of others",
        ),
        (
            "IpcMode",
            json!("host"),
            "hull does not support IpcMode `host` (--ipc): each container has a kernel of its own, and shares no memory \
             with others",
        ),
        ("IpcMode", json!("nonsense"), "invalid IPC mode: nonsense"),
        (
            "UTSMode",
            json!("host"),
            "hull does not support UTSMode `host` (--uts): each container has a kernel of its own, and the name of the \
             host is not known to it",
        ),
        ("UsernsMode", json!("remap"), "invalid user namespace mode: remap"),
        (
            "Isolation",
            json!("hyperv"),
            "invalid isolation 'hyperv' on linux",
        ),
        ("Runtime", json!("runc"), "unknown or invalid runtime name: runc"),
        (
            "BlkioWeight",
            json!(300),
            "hull does not support BlkioWeight (--blkio-weight): a container is alone with its disk, and nobody is there \
             to be weighed against",
        ),
        (
            "CgroupParent",
            json!("/x"),
            "hull does not support CgroupParent (--cgroup-parent): the cgroup of a container is in its microVM",
        ),
        (
            "LogConfig",
            json!({"Type": "syslog"}),
            "error looking up logging plugin syslog: plugin \"syslog\" not found",
        ),
        (
            "MemorySwap",
            json!(1 << 30),
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            "SecurityOpt",
            json!(["apparmor=x"]),
            "hull does not support SecurityOpt `apparmor=x` (--security-opt) yet",
        ),
    ] {
        assert_eq!(refusal(with_host(option, value)), message);
    }
}

#[test]
fn values_that_ask_for_what_is_so_anyway_pass() {
    for (option, value) in [
        ("NetworkMode", json!("bridge")),
        ("CgroupnsMode", json!("private")),
        ("IpcMode", json!("private")),
        ("PidMode", json!("private")),
        ("UsernsMode", json!("host")),
        ("Isolation", json!("default")),
        ("Runtime", json!("hull")),
        ("RestartPolicy", json!({"Name": "", "MaximumRetryCount": 0})),
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("LogConfig", json!({"Type": "", "Config": null})),
        ("SecurityOpt", json!(["label=disable", "seccomp=builtin"])),
        ("MemorySwap", json!(-1)),
        ("ConsoleSize", json!([40, 120])),
    ] {
        create(with_host(option, value));
    }
}

#[test]
fn a_log_is_kept_as_it_is_asked_for() {
    let asked = json!({"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}});
    let spec = create(with_host("LogConfig", asked.clone())).log;
    assert_eq!(spec.driver, engine::LogDriver::Local);
    assert_eq!(serde_json::to_value(log::describe(&spec)).unwrap(), asked);
    let standard = json!({"Type": "json-file", "Config": {}});
    assert_eq!(
        serde_json::to_value(log::describe(&create(docker_run()).log)).unwrap(),
        standard
    );
}

#[test]
fn no_network_is_asked_for_in_two_ways() {
    assert!(create(with_host("NetworkMode", json!("none"))).no_network);
    assert!(create(json!({"Image": "x", "NetworkDisabled": true})).no_network);
    assert!(!create(docker_run()).no_network);
}

#[test]
fn networks_and_ports_reach_the_engine() {
    let mut body = with_host("NetworkMode", json!("web"));
    body["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]});
    body["HostConfig"]["PublishAllPorts"] = json!(true);
    body["HostConfig"]["Links"] = json!(["db:base"]);
    body["NetworkingConfig"] = json!({"EndpointsConfig": {"web": {"Aliases": ["www"]}, "back": null}});
    body["MacAddress"] = json!("02:42:ac:11:00:09");
    let create = create(body);
    assert_eq!(create.network, "web");
    assert_eq!(create.endpoints.keys().collect::<Vec<_>>(), ["back", "web"]);
    assert_eq!(create.endpoints["web"].aliases, ["www"]);
    assert_eq!(create.endpoints["web"].mac, "02:42:ac:11:00:09".parse().ok());
    assert_eq!(create.links, ["db:base"]);
    assert!(create.publish_all && !create.no_network);
    let binding = engine::PortBinding {
        port: "80".parse().unwrap(),
        host: "127.0.0.1".parse().ok(),
        host_ports: Some((8080, 8080)),
    };
    assert_eq!(create.ports, [binding]);
}

#[test]
fn cpu_time_is_a_number_or_a_quota() {
    let resources = |option, value| create(with_host(option, value)).resources;
    assert_eq!(
        resources("NanoCpus", json!(1_500_000_000)).nano_cpus,
        1_500_000_000
    );
    assert_eq!(resources("CpuQuota", json!(50_000)).cpu_quota_us, 50_000);
    assert_eq!(resources("CpuQuota", json!(-1)).cpu_quota_us, 0);
    assert_eq!(resources("CpuPeriod", json!(10_000)).cpu_period_us, 10_000);
    assert!(refusal(with_host("NanoCpus", json!(-1))).contains("negative"));
    assert!(refusal(with_host("CpuQuota", json!(-2))).contains("negative"));
}

#[test]
fn namespaces_disks_and_what_others_say_reach_the_engine() {
    let mut body = with_host("IpcMode", json!("none"));
    for (option, value) in [
        ("CgroupnsMode", json!("host")),
        ("UsernsMode", json!("host")),
        ("StorageOpt", json!({"size": "1G"})),
        ("Annotations", json!({"a": "b"})),
        ("CpusetCpus", json!("0-1")),
        ("CpusetMems", json!("0")),
    ] {
        body["HostConfig"][option] = value;
    }
    let create = create(body);
    assert_eq!(create.ipc, engine::IpcMode::None);
    assert!(create.guest_cgroups && create.guest_users);
    assert_eq!(create.storage["size"], "1G");
    assert_eq!(create.annotations["a"], "b");
    assert_eq!(
        (create.cpuset_cpus.as_str(), create.cpuset_mems.as_str()),
        ("0-1", "0")
    );
}

#[test]
fn limits_are_read_and_checked() {
    let limits = create(with_host(
        "Ulimits",
        json!([{"Name": "nofile", "Soft": 10, "Hard": -1}]),
    ))
    .rlimits;
    assert_eq!(
        limits,
        [Rlimit {
            name: "nofile".into(),
            soft: 10,
            hard: u64::MAX
        }]
    );
    assert_eq!(create(with_host("PidsLimit", json!(-1))).resources.pids, 0);
    assert_eq!(create(with_host("PidsLimit", json!(7))).resources.pids, 7);
    assert!(refusal(with_host("Memory", json!(-5))).contains("Memory"));
    assert!(refusal(with_host("OomScoreAdj", json!(1001))).contains("[-1000, 1000]"));
    assert!(refusal(json!({"Image": "x", "StopTimeout": -1})).contains("StopTimeout"));
}

#[test]
fn security_options_reach_the_engine() {
    let create = create(with_host(
        "SecurityOpt",
        json!(["no-new-privileges", "seccomp=unconfined"]),
    ));
    assert!(create.no_new_privileges && create.seccomp_unconfined);
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    let with = |options: Value| super::read(with_host("SecurityOpt", options), None).unwrap();
    let given = with(json!([format!("seccomp={profile}")]));
    assert_eq!(given.seccomp_profile.as_deref(), Some(profile));
    // The last one counts.
    let last = with(json!([format!("seccomp={profile}"), "seccomp=builtin"]));
    assert_eq!((last.seccomp_profile, last.seccomp_unconfined), (None, false));
}

fn bind(text: &str) -> MountCreate {
    create(with_host("Binds", json!([text]))).mounts.remove(0)
}

fn named_volume(no_copy: bool, subpath: &str) -> MountSource {
    MountSource::Volume {
        name: Some("data".into()),
        labels: BTreeMap::new(),
        no_copy,
        subpath: subpath.into(),
    }
}

#[test]
fn a_bind_names_a_path_a_volume_or_only_a_target() {
    let path = bind("/src:/dst:ro,z");
    assert_eq!(
        path.source,
        MountSource::Bind {
            path: PathBuf::from("/src"),
            create: true,
            non_recursive: false
        }
    );
    assert!(path.read_only && path.target == "/dst");
    assert_eq!(bind("data:/dst").source, named_volume(false, ""));
    assert_eq!(bind("data:/dst:ro,nocopy").source, named_volume(true, ""));
    assert_eq!(bind("/dst").source, MountSource::nameless_volume());
}

#[test]
fn a_bind_that_makes_no_sense_is_refused_with_its_text() {
    for text in [
        "a:b",
        "",
        ":/x",
        "/a:/b:ro:rw",
        "/a:/b:purple",
        "/a:/b:shared",
        "/a:/b:nocopy",
    ] {
        let message = refusal(with_host("Binds", json!([text])));
        assert!(message.contains(text) || message.contains("shared"), "{message}");
    }
}

#[test]
fn mounts_of_each_kind_are_read() {
    let mounts = create(with_host(
        "Mounts",
        json!([
            {"Type": "bind", "Source": "/src", "Target": "/a", "ReadOnly": true},
            {"Type": "volume", "Target": "/b"},
            {"Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": {"NoCopy": true, "Subpath": "x"}},
            {"Type": "bind", "Source": "/s", "Target": "/e",
             "BindOptions": {"NonRecursive": true, "CreateMountpoint": true, "Propagation": "rprivate"}},
            {"Type": "tmpfs", "Target": "/c", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o1777}},
        ]),
    ))
    .mounts;
    assert_eq!(
        mounts[0].source,
        MountSource::Bind {
            path: PathBuf::from("/src"),
            create: false,
            non_recursive: false
        }
    );
    assert!(mounts[0].read_only);
    assert_eq!(mounts[1].source, MountSource::nameless_volume());
    assert_eq!(mounts[2].source, named_volume(true, "x"));
    assert_eq!(
        mounts[3].source,
        MountSource::Bind {
            path: PathBuf::from("/s"),
            create: true,
            non_recursive: true
        }
    );
    assert_eq!(
        mounts[4].source,
        MountSource::Tmpfs {
            options: "size=4096,mode=1777".into()
        }
    );
}

#[test]
fn mount_options_that_cannot_be_had_are_refused() {
    let mount = |mount: Value| refusal(with_host("Mounts", json!([mount])));
    assert_eq!(
        mount(json!({"Type": "image", "Source": "x", "Target": "/a"})),
        "hull does not support mount type `image` yet"
    );
    assert_eq!(
        mount(json!({"Type": "image", "Target": "/a", "ImageOptions": {"Subpath": "x"}})),
        "hull does not support ImageOptions yet"
    );
    assert_eq!(
        mount(
            json!({"Type": "bind", "Source": "/s", "Target": "/a", "BindOptions": {"Propagation": "rslave"}})
        ),
        "hull does not support BindOptions.Propagation `rslave` yet"
    );
    assert_eq!(
        mount(
            json!({"Type": "bind", "Source": "/s", "Target": "/a", "BindOptions": {"ReadOnlyNonRecursive": true}})
        ),
        "hull does not support BindOptions.ReadOnlyNonRecursive yet"
    );
    assert!(mount(json!({"Type": "bind", "Source": "s", "Target": "/a"})).contains("must be absolute"));
    assert!(mount(json!({"Type": "tmpfs", "Target": "a"})).contains("must be absolute"));
}

#[test]
fn volumes_of_the_config_and_of_other_containers_are_told() {
    let mut body = with_host("VolumesFrom", json!(["data", "other:ro"]));
    body["Volumes"] = json!({"/data": {}, "/cache": {}});
    let create = create(body);
    assert!(create.volumes.iter().eq(["/cache", "/data"]));
    let from: Vec<_> = create
        .volumes_from
        .iter()
        .map(|from| (from.container.as_str(), from.read_only))
        .collect();
    assert_eq!(from, [("data", false), ("other", true)]);
    for text in ["", ":ro", "data:purple"] {
        let message = refusal(with_host("VolumesFrom", json!([text])));
        assert!(
            message.contains("invalid volumes-from specification"),
            "{message}"
        );
    }
}
