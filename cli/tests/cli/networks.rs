//! `network`, `port`, and the ports that `ps` shows.

use serde_json::{Value, json};

use crate::api::{Answer, Api, Request, refusal};
use crate::{hull, transcript};

fn network(name: &str, driver: &str, labels: Value) -> Value {
    json!({
        "Name": name, "Id": name.repeat(16), "Created": "2026-11-22T10:00:00.5Z", "Scope": "local", "Driver": driver,
        "EnableIPv4": true, "EnableIPv6": false, "IPAM": {"Driver": "default", "Options": {}, "Config": []},
        "Internal": false, "Attachable": false, "Ingress": false, "Containers": {}, "Options": {}, "Labels": labels,
    })
}

fn answer(request: &Request) -> Answer {
    let networks = json!([
        network("none", "null", json!({})),
        network("back", "bridge", json!({"tier": "back", "a": "1"}))
    ]);
    let container = json!({"Id": "c".repeat(64), "NetworkSettings": {"Ports": {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "443/tcp": null,
    }}});
    match request.line.split('?').next().unwrap_or_default() {
        "GET /networks" => Answer::Json(200, networks.to_string()),
        "GET /networks/back" => Answer::Json(200, networks[1].to_string()),
        "POST /networks/create" => {
            Answer::Json(201, json!({"Id": "d".repeat(64), "Warning": ""}).to_string())
        }
        "POST /networks/prune" => {
            Answer::Json(200, json!({"NetworksDeleted": ["back", "front"]}).to_string())
        }
        "POST /networks/back/connect" | "POST /networks/back/disconnect" => Answer::Json(200, String::new()),
        "DELETE /networks/back" => Answer::Json(204, String::new()),
        "DELETE /networks/busy" => refusal(
            403,
            "error while removing network: network busy has active endpoints",
        ),
        "GET /containers/web/json" => Answer::Json(200, container.to_string()),
        _ => refusal(404, "network nobody not found"),
    }
}

fn golden(name: &str, arguments: &[&str]) {
    let output = hull(&Api::serve(answer), arguments).output().unwrap();
    insta::assert_snapshot!(name, transcript(&output));
}

/// The body of the only request that a command sends.
fn body(arguments: &[&str]) -> Value {
    let api = Api::serve(answer);
    assert!(hull(&api, arguments).status().unwrap().success(), "{arguments:?}");
    let requests = api.requests();
    assert_eq!(requests.len(), 1);
    serde_json::from_slice(&requests[0].body).unwrap()
}

#[test]
fn networks_are_listed_in_dockers_columns() {
    golden("network-ls", &["network", "ls"]);
    golden("network-ls-no-trunc", &["network", "ls", "--no-trunc"]);
    golden("network-ls-quiet", &["network", "ls", "-q"]);
    golden(
        "network-ls-template",
        &[
            "network",
            "ls",
            "--format",
            r#"{{.Name}} {{.IPv6}} {{.Internal}} {{.CreatedAt}} {{.Labels}} {{.Label "tier"}}"#,
        ],
    );
    let api = Api::serve(answer);
    let arguments = ["network", "ls", "-f", "driver=bridge", "-f", "label=a"];
    assert!(hull(&api, &arguments).status().unwrap().success());
    assert_eq!(
        api.request_lines(),
        ["GET /networks?filters=%7B%22driver%22%3A%5B%22bridge%22%5D%2C%22label%22%3A%5B%22a%22%5D%7D"]
    );
}

#[test]
fn networks_are_created_inspected_and_removed() {
    golden(
        "network-create",
        &["network", "create", "--subnet", "10.9.0.0/24", "front"],
    );
    golden(
        "network-create-wrong",
        &["network", "create", "--gateway", "10.9.0.1", "front"],
    );
    golden(
        "network-inspect",
        &[
            "network",
            "inspect",
            "-f",
            "{{.Name}} {{.Driver}}",
            "back",
            "nobody",
        ],
    );
    golden("network-rm", &["network", "rm", "back", "busy", "nobody"]);
    golden("network-rm-force", &["network", "rm", "-f", "back", "nobody"]);
    golden("network-prune", &["network", "prune"]);
    golden("network-prune-forced", &["network", "prune", "-f"]);
}

#[test]
fn containers_are_put_into_networks_and_taken_out() {
    let arguments = [
        "network",
        "connect",
        "--alias",
        "www",
        "--ip",
        "10.9.0.5",
        "--link",
        "db:base",
        "--driver-opt",
        "a=b",
        "--gw-priority",
        "-1",
        "back",
        "web",
    ];
    assert_eq!(
        body(&arguments),
        json!({"Container": "web", "EndpointConfig": {
            "IPAMConfig": {"IPv4Address": "10.9.0.5"}, "Links": ["db:base"], "Aliases": ["www"], "DriverOpts": {"a": "b"},
            "GwPriority": -1,
        }})
    );
    assert_eq!(
        body(&["network", "connect", "back", "web"]),
        json!({"Container": "web", "EndpointConfig": {}})
    );
    assert_eq!(
        body(&["network", "disconnect", "-f", "back", "web"]),
        json!({"Container": "web", "Force": true})
    );
}

#[test]
fn ports_are_told_with_their_places() {
    golden("port", &["port", "web"]);
    golden("port-one", &["port", "web", "80/tcp"]);
    golden("port-unpublished", &["port", "web", "443"]);
}

#[test]
fn a_list_of_containers_has_their_ports() {
    let published = |address: &str, public: u16, private: u16| json!({"IP": address, "PublicPort": public, "PrivatePort": private, "Type": "tcp"});
    let container = json!([{
        "Id": "c".repeat(64), "Names": ["/web"], "State": "running", "Status": "Up 3 seconds",
        "Ports": [
            published("0.0.0.0", 8080, 80), published("::", 8080, 80), {"PrivatePort": 443, "Type": "tcp"},
            published("127.0.0.1", 9000, 9000), published("127.0.0.1", 9001, 9001),
        ],
        "NetworkSettings": {"Networks": {"front": {}, "back": {}}},
    }]);
    let api = Api::serve(move |_| Answer::Json(200, container.to_string()));
    let arguments = ["ps", "--format", r"table {{.Names}}\t{{.Ports}}\t{{.Networks}}"];
    let output = hull(&api, &arguments).output().unwrap();
    insta::assert_snapshot!("ps-ports", transcript(&output));
}

#[test]
fn a_publication_that_makes_no_sense_is_125() {
    golden("run-wrong-port", &["run", "-p", "x:80", "busybox"]);
    golden(
        "run-networks-twice",
        &["run", "--network", "a", "--network", "a", "busybox"],
    );
}
