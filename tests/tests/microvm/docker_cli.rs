//! The real docker CLI against hull's socket.

use anyhow::Result;
use system_tests::hull;

#[test]
fn docker_run_prints_what_the_container_prints() -> Result<()> {
    let hull = hull!();
    assert_eq!(
        hull.docker(["run", "--rm", "busybox", "echo", "hello"]).ok(),
        "hello\n"
    );
    assert_eq!(
        hull.docker_with_input(["run", "-i", "--rm", "busybox", "cat"], b"hi\n")
            .ok(),
        "hi\n"
    );
    hull.docker(["run", "--rm", "busybox", "sh", "-c", "exit 7"])
        .exits(7);
    hull.docker(["run", "--rm", "busybox", "no-such-command"])
        .exits(127);
    hull.docker(["run", "--rm", "busybox", "/etc/passwd"]).exits(126);
    Ok(())
}

#[test]
fn docker_manages_a_container_through_its_life() -> Result<()> {
    let hull = hull!();
    let name = hull.container("docker");
    let script = "echo to stdout; echo to stderr >&2; trap 'exit 9' TERM; while :; do sleep 0.1; done";
    let id = hull
        .docker(["run", "-d", "--name", &name, "busybox", "sh", "-c", script])
        .ok();
    let row = hull
        .docker([
            "ps",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Image}} {{.Names}} {{.State}}",
        ])
        .ok();
    assert!(
        row.contains(&format!("{} busybox {} running", id.trim(), &*name)),
        "{row}"
    );
    hull.first_lines(&name, 2);
    let logs = hull.docker(["logs", &name]).exits(0);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("to stdout\n", "to stderr\n")
    );
    assert_eq!(
        hull.docker(["exec", "-e", "A=b", &name, "sh", "-c", "echo $A; exit 4"])
            .exits(4)
            .stdout,
        "b\n"
    );
    hull.docker(["rm", &name]).exits(1).says("container is running");
    hull.docker(["stop", &name]).ok();
    assert_eq!(
        hull.docker(["inspect", "-f", "{{.State.ExitCode}}", &name])
            .ok()
            .trim(),
        "9"
    );
    assert_eq!(hull.docker(["wait", &name]).ok().trim(), "9");
    hull.docker(["start", &name]).ok();
    hull.docker(["kill", &name]).ok();
    hull.docker(["rm", "-f", &name]).ok();
    hull.docker(["inspect", &name]).exits(1).says("No such");
    Ok(())
}

#[test]
fn docker_reads_what_hull_is() -> Result<()> {
    let hull = hull!();
    assert_eq!(
        hull.docker(["version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"])
            .ok()
            .trim(),
        "linux/amd64"
    );
    assert!(hull.docker(["info"]).ok().contains("Server Version:"));
    assert!(hull.docker(["images"]).ok().contains("localhost/busybox"));
    hull.docker([
        "run",
        "--rm",
        "--network",
        "host",
        "-p",
        "80:80",
        "busybox",
        "true",
    ])
    .exits(125);
    Ok(())
}
