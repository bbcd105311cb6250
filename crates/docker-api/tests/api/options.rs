//! Options of containers: told back as they were given, and refused in Docker's words.

use anyhow::Result;
use serde_json::{Value, json};

use crate::server::Server;

const PROFILE: &str =
    r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;

#[test]
fn options_are_told_back_as_they_were_given() -> Result<()> {
    let server = Server::start()?;
    let asked = json!({
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3", "compress": "true"}},
        "SecurityOpt": [format!("seccomp={PROFILE}")],
        "CpusetCpus": "0",
        "CpusetMems": "0",
        "CpuQuota": 50_000,
        "CpuPeriod": 100_000,
        "Annotations": {"org.example/kind": "test"},
        "IpcMode": "shareable",
        "CgroupnsMode": "host",
        "UsernsMode": "host",
        "StorageOpt": {"size": "1G"},
    });
    server.create("web", &json!({"Image": "busybox", "HostConfig": asked}))?;
    server.create("plain", &json!({"Image": "busybox"}))?;
    let host = |name: &str| -> Result<Value> {
        Ok(server.get(&format!("/containers/{name}/json"))?.json()?["HostConfig"].take())
    };
    let told = host("web")?;
    for (option, value) in asked.as_object().unwrap() {
        assert_eq!(&told[option], value, "{option}");
    }
    assert_eq!(told["NanoCpus"], 0);
    let plain = host("plain")?;
    for (option, value) in [
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("IpcMode", json!("private")),
        ("CgroupnsMode", json!("private")),
        ("PidMode", json!("")),
        ("CpusetCpus", json!("")),
        ("CpuQuota", json!(0)),
    ] {
        assert_eq!(plain[option], value, "{option}");
    }
    assert!(plain.get("StorageOpt").is_none_or(Value::is_null));
    let update = json!({"CpusetCpus": "0", "CpuQuota": 20_000});
    assert_eq!(
        server.post("/containers/plain/update", Some(&update))?.status,
        200
    );
    let plain = host("plain")?;
    assert_eq!(
        (&plain["CpusetCpus"], &plain["CpuQuota"]),
        (&json!("0"), &json!(20_000))
    );
    Ok(())
}

#[test]
fn values_that_make_no_sense_are_refused_and_leave_nothing() -> Result<()> {
    let server = Server::start()?;
    for (host, why) in [
        (
            json!({"LogConfig": {"Type": "syslog"}}),
            "error looking up logging plugin syslog: plugin \"syslog\" not found",
        ),
        (
            json!({"LogConfig": {"Config": {"max-sise": "1m"}}}),
            "unknown log opt 'max-sise' for json-file log driver",
        ),
        (
            json!({"LogConfig": {"Type": "local", "Config": {"labels": "x"}}}),
            "unknown log opt 'labels' for log driver local",
        ),
        (
            json!({"LogConfig": {"Config": {"max-size": "big"}}}),
            "failed to initialize logging driver: invalid size: 'big'",
        ),
        (
            json!({"SecurityOpt": ["seccomp={"]}),
            "Decoding seccomp profile failed",
        ),
        (
            json!({"SecurityOpt": ["seccomp={\"defaultAction\":\"ALLOW\"}"]}),
            "string ALLOW is not a valid action for seccomp",
        ),
        (
            json!({"CpusetCpus": "900"}),
            "Requested CPUs are not available - requested 900, available: 0",
        ),
        (json!({"CpusetCpus": "x"}), "Invalid value x for cpuset cpus"),
        (
            json!({"CpusetMems": "1"}),
            "Requested memory nodes are not available - requested 1, available: 0",
        ),
        (
            json!({"CpuQuota": 999}),
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ),
        (
            json!({"NanoCpus": 500_000_000, "CpuQuota": 50_000}),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (json!({"StorageOpt": {"size": "huge"}}), "invalid size: 'huge'"),
        (json!({"StorageOpt": {"size": "1"}}), "64 MiB to 4 TiB"),
        (json!({"StorageOpt": {"colour": "red"}}), "Unknown option colour"),
        (json!({"PidMode": "container:x"}), "a kernel of its own"),
        (json!({"UTSMode": "host"}), "a kernel of its own"),
    ] {
        let body = json!({"Image": "busybox", "HostConfig": host});
        let answer = server.post("/containers/create?name=refused", Some(&body))?;
        assert_eq!(answer.status, 400, "{host}");
        let message = answer.message()?;
        assert!(message.contains(why), "{host}: {message}");
    }
    assert_eq!(server.get("/containers/json?all=1")?.json()?, json!([]));
    Ok(())
}

#[test]
fn a_log_that_is_not_kept_cannot_be_read() -> Result<()> {
    let server = Server::start()?;
    let host = json!({"LogConfig": {"Type": "none"}});
    server.create("silent", &json!({"Image": "busybox", "HostConfig": host}))?;
    for answer in [
        server.get("/containers/silent/logs?stdout=1")?,
        server.post("/containers/silent/attach?logs=1&stdout=1", None)?,
    ] {
        assert_eq!(answer.status, 501);
        assert_eq!(
            answer.message()?,
            "configured logging driver does not support reading"
        );
    }
    assert_eq!(server.get("/containers/silent/json")?.json()?["LogPath"], "");
    let info = server.get("/info")?.json()?;
    assert_eq!(info["LoggingDriver"], "json-file");
    assert_eq!(info["Plugins"]["Log"], json!(["json-file", "local"]));
    Ok(())
}
