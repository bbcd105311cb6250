//! `hull build`: what is asked of the daemon, what is sent along, and what becomes of its answer.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tar_stream::Reader;
use tempfile::TempDir;

use crate::api::{Answer, Api, Request, refusal};
use crate::{hull, transcript};

const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What the daemon says of a build that succeeds.
pub(crate) fn built() -> Answer {
    let messages = [
        json!({"stream": "Step 1/2 : FROM busybox\n"}),
        json!({"status": "Pulling from library/busybox", "id": "latest"}),
        json!({"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "0123"}),
        json!({"stream": " ---> 0123\n"}),
        json!({"stream": "no newline, "}),
        json!({"stream": "then one\n"}),
        json!({"aux": {"ID": ID}}),
        json!({"stream": "Successfully built 0123456789ab\n"}),
    ];
    let text: String = messages.iter().map(|message| format!("{message}\r\n")).collect();
    Answer::Stream("application/json", text.into_bytes())
}

/// A daemon that builds anything, and has busybox.
pub(crate) fn daemon() -> Api {
    Api::serve(|request| match request.line.as_str() {
        "GET /images/busybox/json" => Answer::Json(200, json!({"Config": {"OnBuild": null}}).to_string()),
        "GET /images/triggers/json" => {
            Answer::Json(200, json!({"Config": {"OnBuild": ["COPY . /"]}}).to_string())
        }
        line if line.starts_with("POST /build?") => built(),
        line => refusal(404, line),
    })
}

pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

pub(crate) fn build(api: &Api, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = hull(api, &["build"]);
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("SOURCE_DATE_EPOCH")
        .env_remove("BUILDKIT_PROGRESS")
        .env_remove("DOCKER_DEFAULT_PLATFORM");
    command
}

pub(crate) fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses need not read.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

/// The build that the daemon was asked for.
pub(crate) fn asked(api: &Api) -> Request {
    let requests = api.requests();
    let mut builds = requests
        .into_iter()
        .filter(|request| request.line.starts_with("POST /build?"));
    builds.next().expect("a build was asked for")
}

pub(crate) fn query(request: &Request) -> BTreeMap<String, String> {
    let (_, query) = request.line.split_once('?').unwrap();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// Paths and contents of an archive.
pub(crate) fn unpacked(archive: &[u8]) -> Vec<(String, String)> {
    let mut reader = Reader::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut content = String::new();
        reader.content(&entry).read_to_string(&mut content).unwrap();
        found.push((String::from_utf8(entry.path).unwrap(), content));
    }
    found
}

pub(crate) fn paths(archive: &[u8]) -> Vec<String> {
    unpacked(archive).into_iter().map(|(path, _)| path).collect()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_folder_is_sent_and_the_answer_shown() {
    let api = daemon();
    let folder = folder(&[
        ("Dockerfile", "FROM busybox\nCOPY . /\n"),
        (".dockerignore", "skip\n"),
        ("a", "1"),
        ("skip/b", "2"),
    ]);
    let output = build(&api, folder.path(), &["-t", "image:1", "."])
        .output()
        .unwrap();
    insta::assert_snapshot!("build", transcript(&output));
    let request = asked(&api);
    assert_eq!(request.line, "POST /build?t=image%3A1&dockerfile=Dockerfile&rm=1");
    assert_eq!(request.headers["content-type"], "application/x-tar");
    assert_eq!(paths(&request.body), [".dockerignore", "Dockerfile", "a"]);
}

#[test]
fn it_has_three_names() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    for command in [["image", "build"], ["builder", "build"]] {
        let api = daemon();
        let output = hull(&api, &command)
            .args(["-q", "."])
            .current_dir(folder.path())
            .output();
        assert_eq!(
            String::from_utf8(output.unwrap().stdout).unwrap(),
            format!("{ID}\n")
        );
    }
}

#[test]
fn progress_has_four_forms() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    for mode in ["plain", "json", "quiet"] {
        let api = daemon();
        let output = build(&api, folder.path(), &["--progress", mode, "."])
            .output()
            .unwrap();
        insta::assert_snapshot!(format!("build-{mode}"), transcript(&output));
        // What is not shown is kept for the case that the build fails.
        assert!(!query(&asked(&api)).contains_key("q"));
    }
    let api = daemon();
    let mut command = build(&api, folder.path(), &["."]);
    let output = command.env("BUILDKIT_PROGRESS", "quiet").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{ID}\n"));
    let output = build(&api, folder.path(), &["--progress", "loud", "."])
        .output()
        .unwrap();
    insta::assert_snapshot!("build-progress-wrong", transcript(&output));
}

#[test]
fn build_arguments_come_from_the_environment() {
    let api = daemon();
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    let arguments = [
        "--build-arg",
        "HERE",
        "--build-arg",
        "GIVEN=x",
        "--build-arg",
        "NOWHERE",
        ".",
    ];
    let mut command = build(&api, folder.path(), &arguments);
    command
        .env("HERE", "value")
        .env("SOURCE_DATE_EPOCH", "7")
        .env_remove("NOWHERE");
    assert!(command.status().unwrap().success());
    let sent: Value = serde_json::from_str(&query(&asked(&api))["buildargs"]).unwrap();
    assert_eq!(
        sent,
        json!({"HERE": "value", "GIVEN": "x", "NOWHERE": null, "SOURCE_DATE_EPOCH": "7"})
    );
}

#[test]
fn secrets_and_credentials_travel_in_headers() {
    let api = daemon();
    let folder = folder(&[
        ("Dockerfile", "FROM scratch\n"),
        ("secret", "hidden"),
        (
            "config/config.json",
            r#"{"auths":{"h:1":{"auth":"bWU6c2VjcmV0"},"empty":{}}}"#,
        ),
    ]);
    let arguments = [
        "--secret",
        "id=file,src=secret",
        "--secret",
        "id=variable,env=TOKEN",
        ".",
    ];
    let mut command = build(&api, folder.path(), &arguments);
    command
        .env("TOKEN", "t")
        .env("DOCKER_CONFIG", folder.path().join("config"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let request = asked(&api);
    let header = |name: &str| -> Value {
        serde_json::from_slice(&URL_SAFE.decode(&request.headers[name]).unwrap()).unwrap()
    };
    assert_eq!(
        header("x-hull-build-secrets"),
        json!({"file": "aGlkZGVu", "variable": "dA=="})
    );
    assert_eq!(
        header("x-registry-config"),
        json!({"h:1": {"username": "me", "password": "secret", "serveraddress": "h:1"}})
    );
    let output = build(&api, folder.path(), &["--secret", "id=a,src=/nonexistent/s", "."])
        .output()
        .unwrap();
    insta::assert_snapshot!("build-no-secret", transcript(&output));
}

#[test]
fn a_build_that_fails_has_the_commands_exit_code() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n"), ("id", "old")]);
    for (code, expected) in [(3, 3), (0, 1), (500, 1)] {
        let api = Api::serve(move |_| {
            let said = json!({"stream": "Step 1/2 : RUN exit 3\n"});
            let error = "The command '/bin/sh -c exit 3' returned a non-zero code: 3";
            let failed = json!({"errorDetail": {"code": code, "message": error}, "error": error});
            Answer::Stream("application/json", format!("{said}\r\n{failed}\r\n").into_bytes())
        });
        let output = build(&api, folder.path(), &["--iidfile", "id", "."])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(expected), "{code}");
        assert!(!folder.path().join("id").exists(), "an old ID is taken away");
        if code == 3 {
            insta::assert_snapshot!("build-failed", transcript(&output));
            // What was not shown is what tells why.
            let output = build(&api, folder.path(), &["-q", "."]).output().unwrap();
            insta::assert_snapshot!("build-failed-quiet", transcript(&output));
        }
    }
    let api = Api::serve(|_| refusal(400, "dockerfile parse error on line 1: unknown instruction: FORM"));
    let output = build(&api, folder.path(), &["."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("unknown instruction: FORM"));
}

#[test]
fn the_images_id_is_written_when_all_is_done() {
    let api = daemon();
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    let status = build(&api, folder.path(), &["--iidfile", "id", "."])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(folder.path().join("id")).unwrap(), ID);
    let mode = fs::metadata(folder.path().join("id"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o400, 0o400);
    // A daemon that does not say what it built.
    let api = Api::serve(|_| Answer::Stream("application/json", b"{\"stream\":\"done\\n\"}".to_vec()));
    let output = build(&api, folder.path(), &["--iidfile", "id", "."])
        .output()
        .unwrap();
    insta::assert_snapshot!("build-no-id", transcript(&output));
    assert!(!folder.path().join("id").exists());
}

#[test]
fn what_hull_cannot_do_is_refused_with_what_to_do_instead() {
    let api = daemon();
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    for (name, arguments) in [
        ("squash", vec!["--squash"]),
        ("ssh", vec!["--ssh", "default=Dockerfile"]),
        ("context", vec!["--build-context", "a=b"]),
        ("cache", vec!["--cache-to", "type=gha"]),
        ("platforms", vec!["--platform", "linux/amd64,linux/arm64"]),
        ("attestations", vec!["--provenance=true"]),
    ] {
        let arguments = [arguments, vec!["."]].concat();
        let output = build(&api, folder.path(), &arguments).output().unwrap();
        insta::assert_snapshot!(format!("build-refused-{name}"), transcript(&output));
    }
    assert_eq!(api.request_lines(), [""; 0]);
    // What is not wanted need not be refused.
    let unwanted = ["--provenance=false", "--sbom=false", "."];
    assert!(build(&api, folder.path(), &unwanted).status().unwrap().success());
}

#[test]
fn an_interrupted_build_is_given_up() {
    let (told, ended) = mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let api = Api::serve(move |_| {
        let ended = Arc::clone(&ended);
        Answer::Later(Box::new(move || {
            // Until the test has its result.
            let _ = ended.lock().unwrap().recv();
            String::new()
        }))
    });
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    let child = build(&api, folder.path(), &["--iidfile", "id", "."])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while api.requests().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    insta::assert_snapshot!("build-interrupted", transcript(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(told);
}
