//! Containers that are looked after: paused, renamed, started again, watched, measured and changed while they run.

use anyhow::Result;
use system_tests::{Hull, hull};

/// Counts for as long as it runs.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";

fn inspect(hull: &Hull, name: &str, field: &str) -> String {
    let format = format!("{{{{{field}}}}}");
    let said = hull.docker(["inspect", "--format", &format, name]).ok();
    said.trim_end().to_owned()
}

fn counted(hull: &Hull, name: &str) -> usize {
    hull.docker(["logs", name]).ok().lines().count()
}

#[test]
fn a_paused_container_stands_still_and_goes_on_where_it_was() -> Result<()> {
    let hull = hull!();
    let name = hull.container("paused");
    hull.start_script(&name, COUNT);
    hull.first_lines(&name, 1);
    hull.docker(["pause", &name]).ok();
    assert_eq!(inspect(&hull, &name, ".State.Status"), "paused");
    let filter = format!("name={}", &*name);
    let status = hull.docker(["ps", "--filter", &filter, "--format", "{{.Status}}"]);
    assert!(status.ok().trim_end().ends_with(" (Paused)"));
    hull.docker(["exec", &name, "true"])
        .exits(1)
        .says("is paused, unpause the container before exec");
    hull.docker(["pause", &name]).exits(1).says("is already paused");
    let before = counted(&hull, &name);
    // Time in which it would have counted on.
    hull.shell("sleep 1");
    assert_eq!(counted(&hull, &name), before);
    hull.hull(["unpause", &name]).ok();
    hull.first_lines(&name, before + 2);
    hull.hull(["unpause", &name]).exits(1).says("is not paused");
    Ok(())
}

#[test]
fn a_container_has_another_name_and_is_restarted_under_it() -> Result<()> {
    let hull = hull!();
    let (old, new) = (hull.container("old-name"), hull.container("new-name"));
    let id = hull.start_script(&old, COUNT);
    hull.docker(["rename", &old, &new]).ok();
    assert_eq!(inspect(&hull, &new, ".Id"), id);
    hull.docker(["inspect", &old]).exits(1);
    let started = inspect(&hull, &new, ".State.StartedAt");
    assert_eq!(hull.docker(["restart", "-t", "0", &new]).ok().trim_end(), &*new);
    assert_eq!(inspect(&hull, &new, ".State.Status"), "running");
    assert_ne!(inspect(&hull, &new, ".State.StartedAt"), started);
    hull.docker(["rename", &new, &new])
        .exits(1)
        .says("Renaming a container with the same name as its current name");
    Ok(())
}

#[test]
fn a_container_that_fails_is_started_again_as_often_as_it_may_be_and_all_of_it_is_told() -> Result<()> {
    let hull = hull!();
    let name = hull.container("restarted");
    let since = hull.shell("date +%s").ok();
    let script = "echo run; exit 3";
    hull.docker([
        "run",
        "-d",
        "--name",
        &name,
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    hull.eventually("the last restart", || {
        match (
            inspect(&hull, &name, ".RestartCount"),
            inspect(&hull, &name, ".State.Status"),
        ) {
            (count, status) if count == "2" && status == "exited" => Ok(()),
            (count, status) => Err(format!("{count} restarts, {status}")),
        }
    });
    assert_eq!(inspect(&hull, &name, ".State.ExitCode"), "3");
    assert_eq!(hull.docker(["logs", &name]).ok(), "run\nrun\nrun\n");
    hull.events_become(&name, &since, &[], "create\nstart\ndie\nstart\ndie\nstart\ndie\n");
    Ok(())
}

#[test]
fn what_a_container_does_and_takes_is_shown_and_what_it_may_take_is_changed() -> Result<()> {
    let hull = hull!();
    let name = hull.container("measured");
    hull.start_script(&name, "echo ready; exec sleep 1000");
    hull.first_lines(&name, 1);
    let top = hull.docker(["top", &name, "-o", "pid,cmd"]).ok();
    let shown: Vec<_> = top
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    assert_eq!(shown[0], ["PID", "CMD"], "{top}");
    assert_eq!(shown[1][1..], ["sleep", "1000"], "{top}");
    assert_eq!(shown.len(), 2, "{top}");
    let stats = [
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.PIDs}} {{.MemUsage}}",
        &name,
    ];
    for stats in [hull.docker(stats).ok(), hull.hull(stats).ok()] {
        assert!(stats.starts_with(&format!("{} 1 ", &*name)), "{stats}");
        assert!(stats.contains("iB / "), "{stats}");
    }
    hull.docker(["update", "--memory", "64m", "--pids-limit", "7", &name])
        .ok();
    let limits = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max";
    assert_eq!(
        hull.docker(["exec", &name, "sh", "-c", limits]).ok(),
        "67108864\n7\n"
    );
    Ok(())
}
