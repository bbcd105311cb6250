//! Names, limits and events of containers that do not run.

use anyhow::Result;
use serde_json::{Value, json};

use crate::server::Server;

fn events(server: &Server, query: &str) -> Result<Vec<Value>> {
    let answer = server.get(&format!("/events?{query}"))?;
    let text = String::from_utf8(answer.body)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[test]
fn a_renamed_container_has_its_new_name_everywhere_and_its_old_one_is_free() -> Result<()> {
    let server = Server::start()?;
    let id = server.create("one", &json!({"Image": "busybox"}))?;
    server.create("two", &json!({"Image": "busybox"}))?;
    let rename = |from: &str, to: &str| server.post(&format!("/containers/{from}/rename?name={to}"), None);

    assert_eq!(rename("one", "three")?.status, 204);
    assert_eq!(server.get("/containers/three/json")?.json()?["Id"], id);
    assert_eq!(
        server.get(&format!("/containers/{id}/json"))?.json()?["Name"],
        "/three"
    );
    assert_eq!(server.get("/containers/one/json")?.status, 404);
    server.create("one", &json!({"Image": "busybox"}))?;

    let taken = rename("three", "two")?;
    assert_eq!(taken.status, 409);
    assert!(
        taken.message()?.starts_with(
            "Error when allocating new name: Conflict. The container name \"/two\" is already in use"
        ),
        "{taken:?}"
    );
    let same = rename("three", "three")?;
    assert_eq!(
        (same.status, same.message()?.as_str()),
        (400, "Renaming a container with the same name as its current name")
    );
    assert_eq!(rename("three", "")?.status, 400);
    assert_eq!(rename("three", "no%2Fname")?.status, 400);
    assert_eq!(rename("nobody", "four")?.status, 404);
    assert_eq!(server.get("/containers/three/json")?.json()?["Id"], id);
    Ok(())
}

#[test]
fn an_update_changes_what_is_given_and_nothing_else() -> Result<()> {
    let server = Server::start()?;
    let body = json!({"Image": "busybox", "HostConfig": {"Memory": 67_108_864}});
    server.create("web", &body)?;
    let update = |body: Value| server.post("/containers/web/update", Some(&body));
    let policy = json!({"Name": "on-failure", "MaximumRetryCount": 3});
    let answer = update(json!({"RestartPolicy": policy, "NanoCpus": 500_000_000, "Memory": 0}))?;
    assert_eq!((answer.status, answer.json()?), (200, json!({"Warnings": null})));
    let host = server.get("/containers/web/json")?.json()?["HostConfig"].take();
    assert_eq!(host["RestartPolicy"], policy);
    assert_eq!(
        (&host["NanoCpus"], &host["Memory"]),
        (&json!(500_000_000), &json!(67_108_864))
    );

    let refused = update(json!({"KernelMemory": 1}))?;
    assert_eq!(
        (refused.status, refused.message()?.contains("KernelMemory")),
        (400, true)
    );
    let little = update(json!({"Memory": 1024}))?;
    assert_eq!(little.status, 400);
    assert_eq!(little.message()?, "Minimum memory limit allowed is 6MB");
    Ok(())
}

#[test]
fn what_happened_is_told_to_who_asks_later_and_filters_choose() -> Result<()> {
    let server = Server::start()?;
    let id = server.create("web", &json!({"Image": "busybox", "Labels": {"tier": "front"}}))?;
    server.create("db", &json!({"Image": "busybox"}))?;
    server.post("/containers/web/rename?name=site", None)?;
    server.request("DELETE", "/containers/site", None)?;
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs_f64();
    let told = |filters: &str| events(&server, &format!("since=1&until={until:.6}&filters={filters}"));
    let actions = |events: &[Value]| -> Vec<String> {
        let action = |event: &Value| event["Action"].as_str().unwrap().to_owned();
        events.iter().map(action).collect()
    };

    let web = told(&format!("%7B%22container%22%3A%5B%22{id}%22%5D%7D"))?;
    assert_eq!(actions(&web), ["create", "rename", "destroy"]);
    assert_eq!(web[1]["Actor"]["Attributes"]["oldName"], "/web");
    assert_eq!(web[2]["Actor"]["Attributes"]["name"], "site");
    assert_eq!(web[0]["Actor"]["Attributes"]["tier"], "front");
    assert_eq!(
        (&web[0]["status"], &web[0]["id"], &web[0]["from"]),
        (&json!("create"), &json!(id), &json!("busybox"))
    );
    let created = told("%7B%22event%22%3A%5B%22create%22%5D%7D")?;
    assert_eq!(actions(&created), ["create", "create"]);

    let refused = server.get("/events?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D")?;
    assert_eq!(
        (refused.status, refused.message()?.as_str()),
        (400, "invalid filter 'colour'")
    );
    assert_eq!(server.get("/events?since=5&until=4")?.status, 400);
    Ok(())
}

#[test]
fn what_needs_a_running_container_is_refused_in_dockers_words() -> Result<()> {
    let server = Server::start()?;
    let id = server.create("web", &json!({"Image": "busybox"}))?;
    for (method, target) in [("POST", "/containers/web/pause"), ("GET", "/containers/web/top")] {
        let refused = server.request(method, target, None)?;
        assert_eq!(
            (refused.status, refused.message()?),
            (409, format!("container {id} is not running")),
            "{target}"
        );
    }
    let unpause = server.request("POST", "/containers/web/unpause", None)?;
    assert_eq!(
        (unpause.status, unpause.message()?),
        (500, format!("Container {id} is not paused"))
    );
    let stats = server.get("/containers/web/stats?stream=0")?.json()?;
    assert_eq!(
        (&stats["name"], &stats["read"]),
        (&json!("/web"), &json!("0001-01-01T00:00:00Z"))
    );
    assert_eq!(
        server.get("/containers/web/stats?stream=1&one-shot=1")?.status,
        400
    );
    Ok(())
}

#[test]
fn a_restart_policy_is_kept_and_goes_with_no_removal() -> Result<()> {
    let server = Server::start()?;
    let create = |host: Value| {
        let body = json!({"Image": "busybox", "HostConfig": host});
        server.post("/containers/create", Some(&body))
    };
    let always = json!({"Name": "always", "MaximumRetryCount": 0});
    let made = create(json!({"RestartPolicy": always}))?.json()?;
    let inspection = server
        .get(&format!("/containers/{}/json", made["Id"].as_str().unwrap()))?
        .json()?;
    assert_eq!(inspection["HostConfig"]["RestartPolicy"], always);
    assert_eq!(inspection["RestartCount"], 0);
    let both = create(json!({"RestartPolicy": always, "AutoRemove": true}))?;
    assert_eq!(
        (both.status, both.message()?.as_str()),
        (400, "can't create 'AutoRemove' container with restart policy")
    );
    let odd = create(json!({"RestartPolicy": {"Name": "sometimes"}}))?;
    assert!(
        odd.status == 400 && odd.message()?.contains("unknown policy 'sometimes'"),
        "{odd:?}"
    );
    Ok(())
}
