//! docker-compose 1.29 against hull: a project from `up` to `down`.

use std::process::Command;

use anyhow::Result;
use system_tests::{Hull, Outcome, hull};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_compose");
/// The project, which is the beginning of the names of all it makes.
const PROJECT: &str = "hulltest";

/// What `docker-compose ARGS...` did.
fn compose(hull: &Hull, args: &[&str]) -> Outcome {
    Command::new("docker-compose")
        .args(["--ansi", "never", "-p", PROJECT])
        .args(args)
        .current_dir(FOLDER)
        .env("DOCKER_HOST", format!("unix://{}", hull.socket().display()))
        // A stop waits for an emulated guest.
        .env("COMPOSE_HTTP_TIMEOUT", "180")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("docker-compose is installed")
        .into()
}

#[test]
fn compose_takes_a_project_up_uses_it_and_takes_it_down() -> Result<()> {
    let hull = hull!();
    let run = |args: &[&str]| compose(&hull, args);
    // What is left of a run that was cut short.
    run(&["down", "-v", "-t", "0", "--rmi", "local"]);

    run(&["up", "-d"]).exits(0).says("Creating hulltest_store_1");
    let ids = run(&["ps", "-q"]).ok();
    assert_eq!(ids.lines().filter(|id| id.len() == 64).count(), 2, "{ids}");
    let listed = run(&["ps"]).ok();
    assert!(
        listed.contains("hulltest_reader_1") && listed.contains("Up (healthy)"),
        "{listed}"
    );
    hull.first_lines("hulltest_store_1", 1);
    let logs = run(&["logs", "--no-color", "store"]).ok();
    assert!(logs.contains("store_1") && logs.contains("| stored"), "{logs}");

    assert_eq!(run(&["exec", "-T", "reader", "cat", "/who"]).ok(), "a reader\n");
    run(&["build", "reader"]).exits(0).says("Building reader");
    let greetings = ["exec", "-T", "reader", "cat", "greetings"];
    assert_eq!(run(&greetings).ok(), "good day\n");
    let fetched = ["exec", "-T", "reader", "wget", "-qO-", "http://store/greetings"];
    assert_eq!(run(&fetched).ok(), "good day\n");
    let port = run(&["port", "store", "80"]).ok();
    let page = Command::new("curl")
        .args(["-s", "-m", "20", &format!("http://{}/greetings", port.trim())])
        .output()?;
    assert_eq!(String::from_utf8_lossy(&page.stdout), "good day\n", "{port}");
    let failing = run(&["exec", "-T", "-e", "A=b", "store", "sh", "-c", "echo $A; exit 5"]).exits(5);
    assert_eq!(failing.stdout, "b\n");
    run(&["exec", "-T", "reader", "touch", "greetings"])
        .exits(1)
        .says("Read-only file system");
    assert!(run(&["top", "reader"]).ok().contains("sleep 0.1"));

    run(&["restart", "-t", "20", "store"]).exits(0);
    hull.first_lines("hulltest_store_1", 2);
    assert_eq!(run(&greetings).ok(), "good day\ngood day\n");
    run(&["pause", "store"]).exits(0);
    assert!(run(&["ps", "store"]).ok().contains("Paused"));
    run(&["unpause", "store"]).exits(0);
    assert!(run(&["up", "-d"]).exits(0).stderr.contains("is up-to-date"));
    assert_eq!(run(&["run", "--rm", "reader", "echo", "once"]).ok(), "once\n");

    run(&["stop"]).exits(0);
    let stopped = run(&["ps"]).ok();
    assert_eq!(stopped.matches("Exit 0").count(), 2, "{stopped}");
    let networks = ["network", "ls", "-q", "--filter", "name=hulltest_"];
    assert_eq!(hull.docker(networks).ok().lines().count(), 1);
    let volume = hull.docker(["volume", "ls", "-q", "--filter", "name=hulltest_data"]);
    assert_eq!(volume.ok(), "hulltest_data\n");
    run(&["down", "-v", "--rmi", "local"])
        .exits(0)
        .says("Removing volume hulltest_data")
        .says("Removing image hulltest_reader");
    assert_eq!(hull.docker(networks).ok(), "");
    let left = hull.docker(["ps", "-aq", "--filter", "name=hulltest_"]).ok();
    let volumes = hull
        .docker(["volume", "ls", "-q", "--filter", "name=hulltest_"])
        .ok();
    assert_eq!((left.as_str(), volumes.as_str()), ("", ""));
    Ok(())
}
