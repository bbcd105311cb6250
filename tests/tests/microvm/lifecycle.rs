//! A container from `run -d` to `rm`, with hull's own commands.

use anyhow::Result;
use system_tests::hull;

#[test]
fn a_detached_container_is_listed_logged_entered_stopped_and_removed() -> Result<()> {
    let hull = hull!();
    let name = hull.container("life");
    let script = "for i in 1 2 3; do echo line $i; done; echo oops >&2; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
    let id = hull.start_script(&name, script);
    assert_eq!(id.len(), 64, "{id}");
    let filter = format!("name={}", &*name);
    assert_eq!(
        hull.hull(["ps", "-q", "--no-trunc", "--filter", &filter]).ok(),
        format!("{id}\n")
    );
    hull.first_lines(&name, 4);
    let logs = hull.hull(["logs", &name]).exits(0);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("line 1\nline 2\nline 3\n", "oops\n")
    );
    // Two pipes: which of their last lines came last, nobody knows.
    let last = hull.hull(["logs", "--tail", "1", &name]).exits(0);
    let last = [last.stdout, last.stderr].concat();
    assert!(["line 3\n", "oops\n"].contains(&last.as_str()), "{last}");
    let stamped = hull.hull(["logs", "-t", &name]).ok();
    assert!(stamped.lines().all(|line| line.contains("Z line ")), "{stamped}");

    let seen = hull
        .hull([
            "exec",
            "-w",
            "/tmp",
            "-e",
            "X=y",
            &name,
            "sh",
            "-c",
            "pwd; echo $X; ps | wc -l",
        ])
        .ok();
    assert!(seen.starts_with("/tmp\ny\n"), "{seen}");
    assert_eq!(
        hull.hull_with_input(["exec", "-i", &name, "cat"], b"in\n").ok(),
        "in\n"
    );
    hull.hull(["exec", &name, "no-such-command"]).exits(127);
    hull.hull(["exec", &name, "mkfifo", "/done"]).ok();
    hull.hull(["exec", "-d", &name, "sh", "-c", "echo detached >/done"])
        .ok();
    assert_eq!(
        hull.hull(["exec", &name, "timeout", "60", "cat", "/done"]).ok(),
        "detached\n"
    );

    hull.hull(["rm", &name]).exits(1).says("container is running");
    assert_eq!(hull.hull(["stop", &name]).ok().trim(), &*name);
    assert_eq!(hull.hull(["wait", &name]).ok(), "3\n");
    assert!(hull.hull(["logs", &name]).ok().ends_with("bye\n"));
    let status = hull
        .hull(["ps", "-a", "--filter", &filter, "--format", "{{.Status}}"])
        .ok();
    assert!(status.starts_with("Exited (3)"), "{status}");
    hull.hull(["rm", &name]).ok();
    hull.hull(["inspect", &name]).exits(1);
    Ok(())
}

#[test]
fn what_a_container_wrote_is_there_when_it_starts_again() -> Result<()> {
    let hull = hull!();
    let name = hull.container("again");
    hull.hull([
        "run",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "cat /kept 2>/dev/null; echo was here >> /kept",
    ])
    .ok();
    assert_eq!(hull.hull(["start", "-a", &name]).ok(), "was here\n");
    Ok(())
}

#[test]
fn kill_ends_a_container_that_does_not_listen() -> Result<()> {
    let hull = hull!();
    let name = hull.container("deaf");
    hull.start_script(&name, "trap '' TERM; echo deaf; while :; do sleep 0.1; done");
    hull.first_lines(&name, 1);
    hull.hull(["stop", "-t", "1", &name]).ok();
    assert_eq!(
        hull.hull(["inspect", "--format", "{{.State.ExitCode}}", &name])
            .ok()
            .trim(),
        "137"
    );
    Ok(())
}

#[test]
fn logs_follow_until_the_container_ends() -> Result<()> {
    let hull = hull!();
    let name = hull.container("followed");
    hull.hull([
        "run",
        "-d",
        "-i",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done",
    ])
    .ok();
    assert_eq!(hull.hull(["logs", "-f", &name]).ok(), "1\n2\n3\n4\n5\n");
    Ok(())
}
