//! Containers that are made, looked at and removed.

use anyhow::Result;
use serde_json::json;

use crate::server::Server;

#[test]
fn a_container_is_made_listed_inspected_and_removed() -> Result<()> {
    let server = Server::start()?;
    let id = server.create(
        "web",
        &json!({
            "Image": "busybox",
            "Cmd": ["echo", "a b"],
            "Env": ["A=1"],
            "Labels": {"tier": "front"},
            "HostConfig": {"Memory": 67_108_864, "ReadonlyRootfs": true, "Tmpfs": {"/run": "size=1m"}},
        }),
    )?;
    assert_eq!(id.len(), 64);

    let list = server.get("/containers/json?all=1")?.json()?;
    assert_eq!(list[0]["Id"], id);
    assert_eq!(list[0]["Names"], json!(["/web"]));
    assert_eq!(list[0]["Image"], "busybox");
    assert_eq!(list[0]["Command"], "echo 'a b'");
    assert_eq!(
        (&list[0]["State"], &list[0]["Status"]),
        (&json!("created"), &json!("Created"))
    );
    assert_eq!(list[0]["Labels"]["tier"], "front");

    let inspection = server.get("/containers/web/json")?.json()?;
    assert_eq!(inspection["Id"], id);
    assert_eq!(inspection["Name"], "/web");
    assert_eq!(
        (&inspection["Path"], &inspection["Args"]),
        (&json!("echo"), &json!(["a b"]))
    );
    assert_eq!(inspection["State"]["Running"], false);
    assert_eq!(inspection["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(inspection["HostConfig"]["Memory"], 67_108_864);
    assert_eq!(inspection["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(inspection["HostConfig"]["Tmpfs"]["/run"], "size=1m");
    assert_eq!(inspection["Config"]["Hostname"], id[..12]);
    let env = inspection["Config"]["Env"].as_array().unwrap();
    assert!(
        env.contains(&json!("A=1")) && env.contains(&json!("PATH=/bin")),
        "{env:?}"
    );

    assert_eq!(server.request("DELETE", "/containers/web", None)?.status, 204);
    assert_eq!(server.get("/containers/json?all=1")?.json()?, json!([]));
    Ok(())
}

#[test]
fn an_inspection_has_what_clients_look_for_and_sizes_if_they_are_asked_for() -> Result<()> {
    let server = Server::start()?;
    let id = server.create("web", &json!({"Image": "busybox"}))?;
    let inspection = server.get("/containers/web/json")?.json()?;
    assert_eq!(inspection["GraphDriver"]["Name"], "erofs");
    let disk = inspection["GraphDriver"]["Data"]["Disk"].as_str().unwrap();
    assert!(disk.ends_with(&format!("{id}/disk.ext4")), "{disk}");
    for (path, expected) in [
        ("/ExecIDs", json!(null)),
        ("/HostConfig/Binds", json!(null)),
        ("/HostConfig/CapAdd", json!(null)),
        ("/HostConfig/Devices", json!([])),
        ("/HostConfig/PidMode", json!("")),
        ("/HostConfig/MemorySwap", json!(0)),
        ("/HostConfig/ReadonlyPaths/0", json!("/proc/bus")),
        ("/HostConfig/RestartPolicy/Name", json!("no")),
        ("/Config/OnBuild", json!(null)),
        ("/NetworkSettings/IPAddress", json!("")),
        ("/NetworkSettings/Ports", json!({})),
    ] {
        assert_eq!(inspection.pointer(path), Some(&expected), "{path}");
    }
    assert_eq!(inspection.get("SizeRw"), None);
    let sized = server.get("/containers/web/json?size=1")?.json()?;
    let list = server.get("/containers/json?all=1&size=1")?.json()?;
    for told in [&sized, &list[0]] {
        let (written, root) = (&told["SizeRw"], &told["SizeRootFs"]);
        // Its image has no files.
        assert!(written.is_u64() && root == written, "{told}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_committed_is_refused() -> Result<()> {
    let server = Server::start()?;
    server.create("web", &json!({"Image": "busybox"}))?;
    for (query, body, status, message) in [
        ("container=nobody", None, 404, "No such container: nobody"),
        ("", None, 400, "value is empty"),
        (
            "container=web&changes=RUN+true",
            None,
            400,
            "RUN is not a valid change command",
        ),
        (
            "container=web&changes=STOPSIGNAL+x",
            None,
            400,
            "invalid signal: x",
        ),
        ("container=web&repo=UPPER", None, 400, "must be lowercase"),
        (
            "container=web&repo=a&tag=b/c",
            None,
            400,
            "invalid reference format",
        ),
        ("container=web", Some(json!({"Env": 1})), 400, "invalid JSON"),
    ] {
        let answer = server.post(&format!("/commit?{query}"), body.as_ref())?;
        let told = answer.message()?;
        assert!(
            answer.status == status && told.contains(message),
            "{query}: {} {told}",
            answer.status
        );
    }
    let digest = format!("container=web&repo=a@sha256:{}", "ab".repeat(32));
    assert_eq!(server.post(&format!("/commit?{digest}"), None)?.status, 400);
    assert_eq!(server.get("/images/json")?.json()?.as_array().unwrap().len(), 1);
    Ok(())
}

#[test]
fn a_list_is_narrowed_by_filters() -> Result<()> {
    let server = Server::start()?;
    server.create("one", &json!({"Image": "busybox", "Labels": {"tier": "front"}}))?;
    server.create("two", &json!({"Image": "busybox"}))?;
    let names = |query: &str| -> Result<Vec<String>> {
        let list = server.get(&format!("/containers/json?{query}"))?.json()?;
        let names = list.as_array().unwrap().iter();
        Ok(names
            .map(|container| container["Names"][0].as_str().unwrap().to_owned())
            .collect())
    };
    assert_eq!(names("all=1")?, ["/two", "/one"]);
    assert_eq!(names("")?, [""; 0]);
    assert_eq!(names("limit=1")?, ["/two"]);
    assert_eq!(
        names("all=1&filters=%7B%22name%22%3A%5B%22on%22%5D%7D")?,
        ["/one"]
    );
    assert_eq!(
        names("all=1&filters=%7B%22label%22%3A%7B%22tier%3Dfront%22%3Atrue%7D%7D")?,
        ["/one"]
    );
    assert_eq!(
        names("filters=%7B%22status%22%3A%5B%22created%22%5D%7D")?,
        ["/two", "/one"]
    );
    assert_eq!(
        names("all=1&filters=%7B%22status%22%3A%5B%22running%22%5D%7D")?,
        [""; 0]
    );
    let refused = server.get("/containers/json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D")?;
    assert_eq!(
        (refused.status, refused.message()?.as_str()),
        (400, "invalid filter 'colour'")
    );
    Ok(())
}

#[test]
fn what_cannot_be_made_leaves_nothing_behind() -> Result<()> {
    let server = Server::start()?;
    server.create("taken", &json!({"Image": "busybox"}))?;
    let refused = |name: &str, body: serde_json::Value| -> Result<(u16, String)> {
        let answer = server.post(&format!("/containers/create?name={name}"), Some(&body))?;
        Ok((answer.status, answer.message()?))
    };
    let (status, message) = refused("taken", json!({"Image": "busybox"}))?;
    assert!(
        status == 409 && message.contains("is already in use by container"),
        "{status} {message}"
    );
    assert_eq!(
        refused("x", json!({"Image": "nosuch"}))?,
        (404, "No such image: nosuch:latest".into())
    );
    let (status, message) = refused("no/name", json!({"Image": "busybox"}))?;
    assert!(status == 400 && message.contains("no/name"), "{status} {message}");
    let ports = json!({"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}});
    assert_eq!(
        refused("yes", ports)?,
        (400, "invalid port specification: \"x\"".into())
    );
    assert_eq!(
        server
            .get("/containers/json?all=1")?
            .json()?
            .as_array()
            .unwrap()
            .len(),
        1
    );
    Ok(())
}

#[test]
fn a_foreign_platform_is_refused() -> Result<()> {
    let server = Server::start()?;
    let answer = server.post(
        "/containers/create?platform=linux%2Fs390x",
        Some(&json!({"Image": "busybox"})),
    )?;
    assert_eq!(answer.status, 404);
    assert!(answer.message()?.contains("linux/s390x"));
    Ok(())
}

#[test]
fn a_container_nobody_made_is_404_everywhere() -> Result<()> {
    let server = Server::start()?;
    for (method, target) in [
        ("GET", "/containers/ghost/json"),
        ("GET", "/containers/ghost/logs?stdout=1"),
        ("POST", "/containers/ghost/start"),
        ("POST", "/containers/ghost/stop"),
        ("POST", "/containers/ghost/wait"),
        ("POST", "/containers/ghost/resize?h=1&w=1"),
        ("POST", "/containers/ghost/attach?stream=1&stdout=1"),
        ("DELETE", "/containers/ghost"),
    ] {
        let answer = server.request(method, target, None)?;
        let message = answer.message()?;
        assert_eq!(
            (answer.status, message.as_str()),
            (404, "No such container: ghost"),
            "{method} {target}"
        );
    }
    let answer = server.get("/exec/ghost/json")?;
    assert_eq!(
        (answer.status, answer.message()?.as_str()),
        (404, "No such exec instance: ghost")
    );
    let kill = server.request("POST", "/containers/ghost/kill", None)?;
    assert_eq!(
        (kill.status, kill.message()?.as_str()),
        (404, "cannot kill container: ghost: No such container: ghost")
    );
    Ok(())
}

#[test]
fn what_needs_a_running_container_is_refused_for_one_that_is_not() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    for (target, status) in [
        ("/containers/idle/kill", 409),
        ("/containers/idle/pause", 409),
        ("/containers/idle/stop", 304),
    ] {
        let answer = server.post(target, None)?;
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }
    let exec = server.post("/containers/idle/exec", Some(&json!({"Cmd": ["true"]})))?;
    assert_eq!(exec.status, 409, "{exec:?}");
    let exec = server.post("/containers/idle/exec", Some(&json!({"Cmd": []})))?;
    assert_eq!(
        (exec.status, exec.message()?.as_str()),
        (400, "No exec command specified")
    );
    Ok(())
}

#[test]
fn logs_of_a_container_that_never_ran_are_empty() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    let logs = server.get("/containers/idle/logs?stdout=1&stderr=1")?;
    assert_eq!((logs.status, logs.body.as_slice()), (200, &b""[..]));
    assert_eq!(
        logs.header("content-type"),
        Some("application/vnd.docker.multiplexed-stream")
    );
    let logs = server.get("/v1.41/containers/idle/logs?stdout=1")?;
    assert_eq!(
        logs.header("content-type"),
        Some("application/vnd.docker.raw-stream")
    );
    let logs = server.get("/containers/idle/logs")?;
    assert_eq!(
        logs.message()?,
        "Bad parameters: you must choose at least one stream"
    );
    Ok(())
}
