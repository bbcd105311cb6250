//! Exit codes and the words that go with them.

use std::process::{Command, Stdio};

use crate::api::{Answer, Api, Request, refusal};
use crate::{hull, transcript};

fn no_container(request: &Request) -> Answer {
    match request.line.as_str() {
        "POST /containers/create" => refusal(404, "No such image: nosuch:latest"),
        "POST /containers/create?name=taken" => {
            refusal(409, "Conflict. The container name \"/taken\" is already in use")
        }
        line if line.starts_with("POST /containers/stopped/exec") => {
            refusal(409, "container 123 is not running")
        }
        _ => refusal(404, "No such container: nobody"),
    }
}

fn golden(name: &str, arguments: &[&str]) {
    let output = hull(&Api::serve(no_container), arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    insta::assert_snapshot!(name, transcript(&output));
}

#[test]
fn a_container_that_is_not_there_is_1() {
    for command in ["start", "stop", "kill", "rm", "wait", "logs", "attach"] {
        let output = hull(&Api::serve(no_container), &[command, "nobody"])
            .output()
            .unwrap();
        assert_eq!(
            transcript(&output),
            "exit code: 1\n----- stdout -----\n----- stderr -----\n\
             Error response from daemon: No such container: nobody\n",
            "{command}"
        );
    }
    golden("exec-nobody", &["exec", "nobody", "true"]);
    golden("exec-stopped", &["exec", "stopped", "true"]);
}

#[test]
fn removing_by_force_what_is_not_there_succeeds() {
    golden("rm-force-nobody", &["rm", "-f", "nobody"]);
}

#[test]
fn a_container_that_cannot_be_created_is_125() {
    golden("run-name-taken", &["run", "--name", "taken", "busybox"]);
}

#[test]
fn a_terminal_without_a_terminal_is_1() {
    golden("run-no-terminal", &["run", "-it", "busybox"]);
}

#[test]
fn a_wrong_command_line_is_125_or_1_as_dockers() {
    golden("usage-unknown-flag", &["run", "--nope", "busybox"]);
    golden("usage-wrong-value", &["run", "-m", "much", "busybox"]);
    golden("usage-conflict", &["run", "-d", "-a", "stdout", "busybox"]);
    golden("usage-missing", &["stop"]);
    golden("usage-missing-command", &["exec", "web"]);
    golden("usage-unknown-command", &["nope"]);
    golden("usage-filter", &["ps", "-f", "running"]);
    golden("usage-detach-keys", &["run", "--detach-keys", "alt-x", "busybox"]);
}

#[test]
fn wrong_environment_and_volumes_are_125() {
    golden("run-wrong-volume", &["run", "-v", "a:b", "busybox"]);
    golden(
        "run-no-env-file",
        &["run", "--env-file", "/nonexistent/file", "busybox"],
    );
}

#[test]
fn a_named_host_that_nobody_listens_at_is_not_started() {
    let output = Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(["-H", "unix:///nonexistent/hull.sock", "ps"])
        .output()
        .unwrap();
    insta::assert_snapshot!("no-daemon", transcript(&output));
    let output = Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(["-H", "http://localhost:1", "ps"])
        .output()
        .unwrap();
    insta::assert_snapshot!("wrong-host", transcript(&output));
}

#[test]
fn what_worked_is_printed_when_something_else_did_not() {
    let api = Api::serve(|request| match request.line.as_str() {
        "POST /containers/a/stop?t=3" => Answer::Json(204, String::new()),
        _ => refusal(404, "No such container: b"),
    });
    let output = hull(&api, &["stop", "-t", "3", "a", "b"]).output().unwrap();
    insta::assert_snapshot!("stop-some", transcript(&output));
}

#[test]
fn a_start_that_fails_says_whether_the_command_was_there() {
    for (message, code) in [
        ("exec: \"nope\": executable file not found in $PATH: unknown", 127),
        ("exec: \"/etc\": permission denied: unknown", 126),
        ("no space left on device", 125),
    ] {
        let api = Api::serve(move |request| match request.line.as_str() {
            "POST /containers/create" => Answer::Json(201, r#"{"Id":"cafe","Warnings":[]}"#.to_owned()),
            _ => refusal(400, message),
        });
        let output = hull(&api, &["run", "-d", "busybox", "nope"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("hull: Error response from daemon: {message}\n")
        );
    }
}
