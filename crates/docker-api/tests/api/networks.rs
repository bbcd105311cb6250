//! Networks that are made, looked at and removed, and containers that are put into them and do not run.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::server::Server;

/// Makes a network and answers its id.
fn make(server: &Server, body: &Value) -> Result<String> {
    let answer = server.post("/networks/create", Some(body))?;
    assert_eq!(answer.status, 201, "{answer:?}");
    let created = answer.json()?;
    assert_eq!(created["Warning"], "");
    Ok(created["Id"].as_str().context("no id")?.to_owned())
}

fn names(networks: &Value) -> Vec<String> {
    let networks = networks.as_array().into_iter().flatten();
    networks
        .map(|network| network["Name"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The networks of a container as an inspection tells them.
fn joined(server: &Server, container: &str) -> Result<Value> {
    let mut inspection = server.get(&format!("/containers/{container}/json"))?.json()?;
    Ok(inspection["NetworkSettings"]["Networks"].take())
}

#[test]
fn a_network_is_made_listed_inspected_and_removed() -> Result<()> {
    let server = Server::start()?;
    let id = make(
        &server,
        &json!({
            "Name": "front", "CheckDuplicate": true, "Internal": true, "Labels": {"tier": "front"},
            "IPAM": {"Driver": "default", "Config": [{
                "Subnet": "10.213.0.0/24", "IPRange": "10.213.0.128/25", "AuxiliaryAddresses": {"router": "10.213.0.9"},
            }]},
        }),
    )?;
    assert_eq!(
        names(&server.get("/networks")?.json()?),
        ["bridge", "none", "front"]
    );
    for name in ["front", &id, &id[..12]] {
        let network = server.get(&format!("/networks/{name}"))?.json()?;
        assert_eq!((&network["Id"], &network["Name"]), (&json!(id), &json!("front")));
        assert_eq!(network["Labels"], json!({"tier": "front"}));
        assert_eq!(
            (&network["Internal"], &network["Containers"]),
            (&json!(true), &json!({}))
        );
        assert_eq!(
            network["IPAM"]["Config"],
            json!([{
                "Subnet": "10.213.0.0/24", "IPRange": "10.213.0.128/25", "Gateway": "10.213.0.1",
                "AuxiliaryAddresses": {"router": "10.213.0.9"},
            }])
        );
    }
    for (filters, expected) in [
        (r#"{"name":["^fro"]}"#, &["front"][..]),
        (r#"{"type":["builtin"]}"#, &["bridge", "none"]),
        (r#"{"driver":["null"]}"#, &["none"]),
        (r#"{"label":["tier"]}"#, &["front"]),
        (r#"{"dangling":["true"]}"#, &["front"]),
    ] {
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let listed = server.get(&format!("/networks?filters={encoded}"))?.json()?;
        assert_eq!(names(&listed), expected, "{filters}");
    }
    assert_eq!(server.request("DELETE", "/networks/front", None)?.status, 204);
    let gone = server.get("/networks/front")?;
    assert_eq!(
        (gone.status, gone.message()?.as_str()),
        (404, "network front not found")
    );
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_as_docker_does() -> Result<()> {
    let server = Server::start()?;
    make(&server, &json!({"Name": "front"}))?;
    for (body, status, message) in [
        (
            json!({"Name": "front"}),
            409,
            "network with name front already exists",
        ),
        (
            json!({"Name": "bridge"}),
            403,
            "operation is not permitted on predefined bridge network",
        ),
        (
            json!({"Name": "x", "Driver": "overlay"}),
            404,
            "plugin \"overlay\" not found",
        ),
        (
            json!({"Name": "x", "Scope": "swarm"}),
            400,
            "hull does not support Scope",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.0.0.1/8"}]}}),
            400,
            "invalid subnet 10.0.0.1/8: it should be 10.0.0.0/8",
        ),
        (json!({"Name": "x", "Novelty": 1}), 400, "Novelty"),
    ] {
        let answer = server.post("/networks/create", Some(&body))?;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.message()?.contains(message), "{body}: {answer:?}");
    }
    for (name, status) in [("bridge", 403), ("none", 403), ("ghost", 404)] {
        let answer = server.request("DELETE", &format!("/networks/{name}"), None)?;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
    }
    let nobody = server.post("/networks/front/connect", Some(&json!({"Container": "ghost"})))?;
    assert_eq!(nobody.status, 404, "{nobody:?}");
    let nothing = server.post("/networks/front/connect", Some(&json!({})))?;
    assert_eq!(nothing.status, 400, "{nothing:?}");
    Ok(())
}

#[test]
fn a_container_tells_its_networks_and_ports_as_they_were_asked_for() -> Result<()> {
    let server = Server::start()?;
    let id = make(&server, &json!({"Name": "front"}))?;
    let host = json!({
        "NetworkMode": "front",
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": ""}]},
        "PublishAllPorts": true,
    });
    let place =
        json!({"Aliases": ["www"], "MacAddress": "02:42:ac:12:00:09", "GwPriority": 3, "DriverOpts": null});
    server.create(
        "web",
        &json!({
            "Image": "busybox", "ExposedPorts": {"443/tcp": {}}, "HostConfig": host,
            "NetworkingConfig": {"EndpointsConfig": {"front": place}},
        }),
    )?;
    let inspection = server.get("/containers/web/json")?.json()?;
    for (name, value) in host.as_object().unwrap() {
        assert_eq!(&inspection["HostConfig"][name], value, "{name}");
    }
    let networks = &inspection["NetworkSettings"]["Networks"];
    for (name, value) in place.as_object().unwrap() {
        assert_eq!(&networks["front"][name], value, "{name}");
    }
    assert_eq!(networks["front"]["NetworkID"], id);
    assert_eq!(inspection["NetworkSettings"]["Ports"], json!({}));
    let filtered = |filters: &str| -> Result<usize> {
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let list = server
            .get(&format!("/containers/json?all=1&filters={encoded}"))?
            .json()?;
        Ok(list.as_array().map_or(0, Vec::len))
    };
    for (filters, expected) in [
        (r#"{"network":["front"]}"#.to_owned(), 1),
        (format!(r#"{{"network":["{}"]}}"#, &id[..12]), 1),
        (r#"{"network":["bridge"]}"#.to_owned(), 0),
        (r#"{"publish":["80"]}"#.to_owned(), 1),
        (r#"{"publish":["8080"]}"#.to_owned(), 0),
        (r#"{"expose":["440-450/tcp"]}"#.to_owned(), 1),
    ] {
        assert_eq!(filtered(&filters)?, expected, "{filters}");
    }
    Ok(())
}

#[test]
fn a_container_is_put_into_networks_and_taken_out() -> Result<()> {
    let server = Server::start()?;
    make(&server, &json!({"Name": "front"}))?;
    make(&server, &json!({"Name": "idle"}))?;
    server.create("web", &json!({"Image": "busybox"}))?;
    let change = |network: &str, what: &str, body: Value| {
        server.post(&format!("/networks/{network}/{what}"), Some(&body))
    };
    let config = json!({"Aliases": ["www"], "IPAMConfig": null, "Links": null});
    let connected = change(
        "front",
        "connect",
        json!({"Container": "web", "EndpointConfig": config}),
    )?;
    assert_eq!(connected.status, 200, "{connected:?}");
    let networks = joined(&server, "web")?;
    assert_eq!(networks["front"]["Aliases"], json!(["www"]));
    assert!(networks["bridge"].is_object());
    let again = change("front", "connect", json!({"Container": "web"}))?;
    assert_eq!(again.status, 403, "{again:?}");

    // It is used, though nobody runs in it.
    let pruned = server.post("/networks/prune", None)?.json()?;
    assert_eq!(pruned["NetworksDeleted"], json!(["idle"]));
    assert_eq!(
        server.post("/networks/prune", None)?.json()?,
        json!({"NetworksDeleted": null})
    );

    let left = change(
        "bridge",
        "disconnect",
        json!({"Container": "web", "Force": false}),
    )?;
    assert_eq!(left.status, 200, "{left:?}");
    let networks = joined(&server, "web")?;
    assert_eq!(
        networks.as_object().map(|networks| networks.len()),
        Some(1),
        "{networks}"
    );
    assert_eq!(
        change("bridge", "disconnect", json!({"Container": "web"}))?.status,
        403
    );
    Ok(())
}
