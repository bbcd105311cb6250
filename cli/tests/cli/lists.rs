//! `ps` and `images`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::{hull, transcript};

fn seconds_ago(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - seconds
}

fn containers(created: [u64; 2]) -> Value {
    json!([
        {
            "Id": "0123456789abcdef".repeat(4),
            "Names": ["/web"],
            "Image": "localhost/busybox:latest",
            "ImageID": format!("sha256:{}", "ab".repeat(32)),
            "Command": "sh -c 'while true; do sleep 1; done'",
            "Created": created[0],
            "Ports": [],
            "Labels": {"com.example.role": "db", "a": "1"},
            "State": "running",
            "Status": "Up About an hour",
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Networks": {}},
            "Mounts": [
                {"Type": "bind", "Source": "/home/user/a/long/path", "Destination": "/src", "RW": true},
                {"Type": "volume", "Name": "data", "Driver": "local", "Destination": "/d", "RW": true},
            ],
        },
        {
            "Id": "fedcba9876543210".repeat(4),
            "Names": ["/a_rather_long_name"],
            "Image": format!("sha256:{}", "cd".repeat(32)),
            "ImageID": format!("sha256:{}", "cd".repeat(32)),
            "Command": "true",
            "Created": created[1],
            "Ports": [],
            "Labels": {},
            "State": "exited",
            "Status": "Exited (0) 3 seconds ago",
        },
    ])
}

fn images(created: u64) -> Value {
    json!([
        {
            "Id": format!("sha256:{}", "ab".repeat(32)),
            "ParentId": "",
            "RepoTags": ["localhost/busybox:latest", "registry:5000/tools/busybox:1.36"],
            "RepoDigests": [format!("localhost/busybox@sha256:{}", "ef".repeat(32))],
            "Created": created,
            "Size": 1_234_567,
            "SharedSize": -1,
            "Labels": {},
            "Containers": -1,
        },
        {
            "Id": format!("sha256:{}", "cd".repeat(32)),
            "ParentId": "",
            "RepoTags": [],
            "RepoDigests": [],
            "Created": created,
            "Size": 42,
            "SharedSize": 40,
            "Labels": {},
            "Containers": 2,
        },
    ])
}

/// Ages that stay in their range while the test runs.
fn api() -> Api {
    Api::serve(|request| {
        let body = match request.line.split(['?', ' ']).nth(1) {
            Some("/containers/json") => containers([seconds_ago(3900), seconds_ago(130)]),
            Some("/images/json") => images(seconds_ago(3 * 86_400 + 3600)),
            _ => panic!("{request:?}"),
        };
        Answer::Json(200, body.to_string())
    })
}

fn golden(name: &str, arguments: &[&str]) {
    let output = hull(&api(), arguments).output().unwrap();
    insta::assert_snapshot!(name, transcript(&output));
}

#[test]
fn ps_has_dockers_columns() {
    golden("ps", &["ps", "-a"]);
    golden("ps-no-trunc", &["ps", "--no-trunc"]);
    golden("ps-quiet", &["ps", "-q"]);
}

#[test]
fn ps_takes_templates() {
    golden(
        "ps-template",
        &[
            "ps",
            "--format",
            r#"{{.ID}}: {{.Names}} {{.Label "com.example.role"}}"#,
        ],
    );
    golden(
        "ps-template-table",
        &[
            "ps",
            "--format",
            r"table {{.Names}}\t{{upper .State}}\t{{.Mounts}}\t{{.LocalVolumes}}\t{{.Labels}}",
        ],
    );
    golden("ps-template-wrong", &["ps", "--format", "{{.Nmae}}"]);
    golden("ps-template-broken", &["ps", "--format", "{{.Names"]);
}

#[test]
fn ps_as_json_has_a_line_for_each_container() {
    let api = Api::serve(|_| Answer::Json(200, containers([1_700_000_000, 1_700_000_000]).to_string()));
    let output = hull(&api, &["ps", "--format", "json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    // It goes on growing, unlike the point in time.
    first["RunningFor"] = Value::Null;
    insta::assert_snapshot!("ps-json", format!("{first:#}"));
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn ps_asks_for_what_its_options_say() {
    let api = api();
    let arguments = [
        "ps",
        "-a",
        "-n",
        "3",
        "-f",
        "status=exited",
        "-f",
        "status=created",
    ];
    assert!(hull(&api, &arguments).status().unwrap().success());
    assert_eq!(
        api.request_lines(),
        [
            "GET /containers/json?all=1&limit=3&filters=%7B%22status%22%3A%5B%22exited%22%2C%22created%22%5D%7D"
        ]
    );
}

#[test]
fn images_has_dockers_columns() {
    golden("images", &["images"]);
    golden("images-no-trunc", &["images", "--no-trunc"]);
    golden("images-quiet", &["images", "-q"]);
    golden(
        "images-template",
        &[
            "images",
            "--format",
            r"table {{.Repository}}\t{{.Digest}}\t{{.Containers}}\t{{.SharedSize}}\t{{.UniqueSize}}",
        ],
    );
}

#[test]
fn images_of_a_name_are_asked_for_by_that_name() {
    let api = api();
    assert!(hull(&api, &["images", "busybox"]).status().unwrap().success());
    assert_eq!(
        api.request_lines(),
        ["GET /images/json?filters=%7B%22reference%22%3A%5B%22busybox%22%5D%7D"]
    );
}
