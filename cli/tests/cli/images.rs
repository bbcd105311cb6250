//! The commands for images.

use std::io::Write;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::api::{Answer, Api, refusal};
use crate::{hull, transcript};

/// Messages as the daemon sends them.
fn progress(messages: &[Value]) -> Answer {
    let lines: String = messages.iter().map(|message| format!("{message}\r\n")).collect();
    Answer::Stream("application/json", lines.into_bytes())
}

fn pulling() -> Answer {
    let layer = |status: &str, detail: Value| json!({"status": status, "progressDetail": detail, "id": "0123456789ab"});
    progress(&[
        json!({"status": "Pulling from library/busybox", "id": "1.36"}),
        layer("Pulling fs layer", json!({})),
        layer("Downloading", json!({"current": 5, "total": 10})),
        layer("Download complete", json!({})),
        layer("Pull complete", json!({})),
        json!({"status": format!("Digest: sha256:{}", "ab".repeat(32))}),
        json!({"status": "Status: Downloaded newer image for busybox:1.36"}),
    ])
}

/// `METHOD /path` of a request, without its query.
fn route(line: &str) -> &str {
    line.split('?').next().unwrap_or(line)
}

fn golden(name: &str, api: &Api, arguments: &[&str]) {
    let output = hull(api, arguments).output().unwrap();
    insta::assert_snapshot!(name, transcript(&output));
}

#[test]
fn pull_says_what_happens_in_lines_where_there_is_no_terminal() {
    let api = Api::serve(|_| pulling());
    golden("pull", &api, &["pull", "busybox:1.36"]);
    golden("pull-quiet", &api, &["pull", "-q", "busybox:1.36"]);
    golden("pull-default-tag", &api, &["pull", "busybox"]);
    golden("pull-all-tags-of-a-tag", &api, &["pull", "-a", "busybox:1"]);
    assert!(
        hull(&api, &["pull", "-aq", "--platform", "linux/arm64", "h:1/a"])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        api.request_lines(),
        [
            "POST /images/create?fromImage=busybox&tag=1.36",
            "POST /images/create?fromImage=busybox&tag=1.36",
            "POST /images/create?fromImage=busybox&tag=latest",
            "POST /images/create?fromImage=h%3A1%2Fa&tag=&platform=linux%2Farm64",
        ]
    );
}

#[test]
fn a_pull_that_fails_on_its_way_is_told_and_fails() {
    let api = Api::serve(|_| {
        progress(&[
            json!({"status": "Pulling from a", "id": "latest"}),
            json!({"errorDetail": {"message": "the registry hangs"}, "error": "the registry hangs"}),
        ])
    });
    golden("pull-failed", &api, &["pull", "a:latest"]);
    let api = Api::serve(|_| refusal(404, "pull access denied for a"));
    golden("pull-refused", &api, &["pull", "-q", "a"]);
}

#[test]
fn push_ends_with_the_digest() {
    let api = Api::serve(|_| {
        let layer = |status: &str, id: &str| json!({"status": status, "progressDetail": {}, "id": id});
        progress(&[
            json!({"status": "The push refers to repository [h:1/a]"}),
            layer("Preparing", "0123456789ab"),
            layer("Layer already exists", "0123456789ab"),
            layer("Mounted from b", "ba9876543210"),
            json!({"status": "1: digest: sha256:00 size: 7"}),
            json!({"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:00", "Size": 7}}),
        ])
    });
    golden("push", &api, &["push", "h:1/a:1"]);
    golden("push-quiet", &api, &["push", "-q", "h:1/a:1"]);
    assert!(hull(&api, &["push", "-a", "h:1/a"]).status().unwrap().success());
    assert_eq!(
        api.request_lines(),
        [
            "POST /images/h%3A1%2Fa/push",
            "POST /images/h%3A1%2Fa/push?tag=1",
            "POST /images/h%3A1%2Fa/push?tag=1",
        ]
    );
}

#[test]
fn run_pulls_what_is_missing_and_says_so() {
    let api = Api::serve(|request| match route(&request.line) {
        "POST /images/create" => refusal(404, "manifest for nosuch:latest not found: manifest unknown"),
        _ => refusal(404, "No such image: nosuch:latest"),
    });
    golden("run-no-image", &api, &["run", "nosuch"]);
    golden("run-no-image-never", &api, &["run", "--pull", "never", "nosuch"]);
    golden("run-pull-wrong", &api, &["run", "--pull", "sometimes", "nosuch"]);
    let created = std::sync::atomic::AtomicUsize::new(0);
    let api = Api::serve(move |request| match route(&request.line) {
        "POST /images/create" => pulling(),
        _ if created.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => {
            refusal(404, "No such image: busybox:1.36")
        }
        _ => Answer::Json(201, json!({"Id": "c".repeat(64), "Warnings": []}).to_string()),
    });
    golden("create-pulls", &api, &["create", "busybox:1.36"]);
    let api = Api::serve(|request| match route(&request.line) {
        "POST /images/create" => pulling(),
        _ => Answer::Json(201, json!({"Id": "c".repeat(64), "Warnings": []}).to_string()),
    });
    golden(
        "create-always",
        &api,
        &["create", "--pull", "always", "-q", "busybox:1.36"],
    );
    assert_eq!(api.requests().len(), 2);
}

#[test]
fn rmi_tells_names_and_images_that_are_gone() {
    let api = Api::serve(|request| match route(&request.line) {
        "DELETE /images/a" => Answer::Json(
            200,
            json!([{"Untagged": "a:latest"}, {"Untagged": "a@sha256:01"}, {"Deleted": "sha256:02"}])
                .to_string(),
        ),
        "DELETE /images/used" => refusal(409, "conflict: unable to delete 0123 (must be forced)"),
        _ => refusal(404, "No such image: nosuch:latest"),
    });
    golden("rmi", &api, &["rmi", "a", "used", "nosuch"]);
    golden("rmi-force", &api, &["rmi", "-f", "--no-prune", "nosuch", "a"]);
    assert!(
        api.request_lines()
            .contains(&"DELETE /images/a?force=1&noprune=1".to_owned())
    );
}

#[test]
fn history_has_dockers_columns() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let api = Api::serve(move |_| {
        let step = |id: &str, created: u64, by: &str, size: u64, comment: &str| json!({"Id": id, "Created": created, "CreatedBy": by, "Size": size, "Comment": comment, "Tags": null});
        let id = format!("sha256:{}", "ab".repeat(32));
        let long = "/bin/sh -c apt-get update && apt-get install -y\tsomething with a long name";
        Answer::Json(
            200,
            json!([
                step(&id, now - 7200, "CMD [\"sh\"]", 0, "buildkit"),
                step("<missing>", now - 3 * 86_400, long, 4_261_000, ""),
                step("<missing>", 0, "", 1, "")
            ])
            .to_string(),
        )
    });
    golden("history", &api, &["history", "a"]);
    golden("history-quiet", &api, &["history", "-q", "--no-trunc", "a"]);
    golden(
        "history-bytes",
        &api,
        &[
            "history",
            "--human=false",
            "--format",
            "{{.Size}} {{.CreatedBy}}",
            "a",
        ],
    );
}

#[test]
fn images_can_show_digests() {
    let api = Api::serve(|_| {
        let image = json!([{"Id": format!("sha256:{}", "ab".repeat(32)), "ParentId": "", "RepoTags": ["a:1"],
            "RepoDigests": [format!("a@sha256:{}", "cd".repeat(32))], "Created": 0, "Size": 1000, "SharedSize": -1,
            "Labels": {}, "Containers": -1}]);
        Answer::Json(200, image.to_string())
    });
    golden("images-digests", &api, &["images", "--digests"]);
}

#[test]
fn prune_asks_first_and_tells_what_is_gone() {
    let api = Api::serve(|request| {
        match route(&request.line) {
        "POST /containers/prune" => Answer::Json(
            200,
            json!({"ContainersDeleted": ["c".repeat(64)], "SpaceReclaimed": 1000}).to_string(),
        ),
        "POST /build/prune" => Answer::Json(200, json!({"CachesDeleted": ["aaaa"], "SpaceReclaimed": 500}).to_string()),
        "POST /networks/prune" => Answer::Json(200, json!({"NetworksDeleted": ["front"]}).to_string()),
        _ => Answer::Json(
            200,
            json!({"ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": "sha256:00"}], "SpaceReclaimed": 2_000_000})
                .to_string(),
        ),
    }
    });
    golden("image-prune-refused", &api, &["image", "prune"]);
    assert!(
        api.requests().is_empty(),
        "nothing is asked of the daemon before the answer"
    );
    golden(
        "image-prune-forced",
        &api,
        &["image", "prune", "-af", "--filter", "until=24h"],
    );
    let mut child = hull(&api, &["system", "prune", "--filter", "label=a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"y\n").unwrap();
    insta::assert_snapshot!("system-prune", transcript(&child.wait_with_output().unwrap()));
    golden(
        "system-prune-all",
        &api,
        &["system", "prune", "-af", "--filter", "until=1h"],
    );
    assert_eq!(
        api.request_lines(),
        [
            "POST /build/prune?all=1&filters=%7B%22until%22%3A%5B%221h%22%5D%7D",
            "POST /containers/prune?filters=%7B%22label%22%3A%5B%22a%22%5D%7D",
            "POST /containers/prune?filters=%7B%22until%22%3A%5B%221h%22%5D%7D",
            "POST /images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%2C%22until%22%3A%5B%221h%22%5D%7D",
            "POST /images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%2C%22until%22%3A%5B%2224h%22%5D%7D",
            "POST /images/prune?filters=%7B%22dangling%22%3A%5B%22true%22%5D%2C%22label%22%3A%5B%22a%22%5D%7D",
            "POST /networks/prune?filters=%7B%22label%22%3A%5B%22a%22%5D%7D",
            "POST /networks/prune?filters=%7B%22until%22%3A%5B%221h%22%5D%7D",
        ]
    );
}

#[test]
fn system_df_has_dockers_rows() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let api = Api::serve(move |_| {
        let image = |tags: Value, size: i64, shared: i64, containers: i64| {
            json!({"Id": format!("sha256:{}", "ab".repeat(32)), "ParentId": "", "RepoTags": tags, "RepoDigests": [],
                "Created": now - 7200, "Size": size, "SharedSize": shared, "Labels": {}, "Containers": containers})
        };
        let container = |state: &str, size: i64| {
            json!({"Id": "c".repeat(64), "Names": ["/web"], "Image": "a:1", "Command": "sh", "Created": now - 7200,
                "State": state, "Status": "Up 2 hours", "SizeRw": size})
        };
        let usage = json!({"LayersSize": 15_000_000,
            "Images": [image(json!(["a:1"]), 10_000_000, 5_000_000, 1), image(json!([]), 10_000_000, 5_000_000, 0)],
            "Containers": [container("running", 1000), container("exited", 3000)], "Volumes": [], "BuildCache": []});
        Answer::Json(200, usage.to_string())
    });
    golden("df", &api, &["system", "df"]);
    golden("df-verbose", &api, &["system", "df", "-v"]);
    golden(
        "df-template",
        &api,
        &["system", "df", "--format", "{{.Type}}: {{.Reclaimable}}"],
    );
}

#[test]
fn system_check_exits_with_1_when_there_is_damage() {
    let clean = json!({"Images": 2, "Blobs": 5, "Layers": 2, "Bytes": 1_234_567, "Problems": []});
    let mut damaged = clean.clone();
    damaged["Problems"] = json!([{"Object": "blob sha256:00", "What": "its content has the digest sha256:01",
        "Images": ["localhost/busybox:latest"]}]);
    let api = Api::serve(move |_| Answer::Json(200, clean.to_string()));
    golden("check-clean", &api, &["system", "check"]);
    let api = Api::serve(move |_| Answer::Json(200, damaged.to_string()));
    golden("check-damaged", &api, &["system", "check"]);
    golden("check-damaged-quiet", &api, &["system", "check", "-q"]);
}

#[test]
fn save_writes_what_came_and_load_sends_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tar");
    let content: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let sent = content.clone();
    let api = Api::serve(move |request| match route(&request.line) {
        "GET /images/get" => Answer::Stream("application/x-tar", sent.clone()),
        "POST /images/load" => progress(&[json!({"stream": "Loaded image: a:1\n"})]),
        _ => progress(&[json!({"status": "sha256:00"})]),
    });
    let path = archive.to_str().unwrap();
    assert!(
        hull(&api, &["save", "-o", path, "a", "h:1/b"])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(std::fs::read(&archive).unwrap(), content);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing else is left there"
    );
    assert_eq!(hull(&api, &["save", "a"]).output().unwrap().stdout, content);
    golden("load", &api, &["load", "-i", path]);
    golden(
        "import",
        &api,
        &[
            "import",
            "-c",
            "CMD [\"sh\"]",
            "-c",
            "ENV A=b",
            "-m",
            "text",
            path,
            "h:1/a:1",
        ],
    );
    let mut requests = api.requests();
    assert_eq!(requests.pop().unwrap().body, content);
    let load = requests.pop().unwrap();
    assert_eq!(
        (load.line.as_str(), load.body),
        ("POST /images/load?quiet=1", content)
    );
    assert_eq!(requests[0].line, "GET /images/get?names=a&names=h%3A1%2Fb");
}

#[test]
fn an_import_of_a_url_is_left_to_the_daemon() {
    let api = Api::serve(|_| {
        progress(&[
            json!({"status": "Downloading from http://h/a.tar"}),
            json!({"status": "Importing", "progressDetail": {"current": 5, "total": 10}}),
            json!({"status": "sha256:00"}),
        ])
    });
    golden("import-url", &api, &["import", "http://h/a.tar?b=c", "a"]);
    let request = api.requests().pop().unwrap();
    assert_eq!(
        request.line,
        "POST /images/create?fromSrc=http%3A%2F%2Fh%2Fa.tar%3Fb%3Dc&repo=a"
    );
    assert_eq!(request.body, b"");
}

#[test]
fn a_platform_is_sent_as_the_api_takes_it() {
    let api = Api::serve(|request| match route(&request.line) {
        "DELETE /images/a" | "GET /images/a/history" => Answer::Json(200, "[]".to_owned()),
        "GET /images/a/json" => Answer::Json(200, "{}".to_owned()),
        _ => progress(&[]),
    });
    let (amd, arm) = ("linux/amd64", "linux/arm/v7");
    for arguments in [
        &["push", "--platform", amd, "a"][..],
        &["save", "--platform", amd, "a"],
        &["load", "--platform", arm],
        &["history", "--platform", amd, "a"],
        &["image", "inspect", "--platform", amd, "a"],
        &["rmi", "--platform", amd, "--platform", arm, "a"],
    ] {
        let status = hull(&api, arguments).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    }
    let amd = "%7B%22architecture%22%3A%22amd64%22%2C%22os%22%3A%22linux%22%7D";
    let arm = "%7B%22architecture%22%3A%22arm%22%2C%22os%22%3A%22linux%22%2C%22variant%22%3A%22v7%22%7D";
    let mut lines = api.request_lines();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            format!("DELETE /images/a?platforms={amd}&platforms={arm}"),
            format!("GET /images/a/history?platform={amd}"),
            format!("GET /images/a/json?platform={amd}"),
            format!("GET /images/get?platform={amd}&names=a"),
            format!("POST /images/a/push?tag=latest&platform={amd}"),
            format!("POST /images/load?quiet=1&platform={arm}"),
        ]
    );
    let refused = hull(&api, &["push", "--platform", "linux/", "a"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("is no platform"),
        "{said}"
    );
}

#[test]
fn a_save_that_is_refused_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::serve(|_| refusal(404, "No such image: nosuch:latest"));
    let path = folder.path().join("a.tar");
    let status = hull(&api, &["save", "-o", path.to_str().unwrap(), "nosuch"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
