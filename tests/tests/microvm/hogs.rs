//! Containers that take all they can get, and their neighbour. How much slower that gets is measured by `make bench`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use system_tests::hogs::{DISK, FORKS, FULL, HOGS, LIMITS, LOG, MEMORY, MOST_PROCESSES};
use system_tests::{Cleanup, hull};

/// How long it may take until one of them is at its limit, with little of two emulated CPUs.
const LONG: Duration = Duration::from_secs(180);

#[test]
fn five_that_take_all_they_can_leave_their_neighbour_alone() -> Result<()> {
    let hull = hull!();
    let neighbour = hull.container("neighbour");
    hull.start_script(&neighbour, "sleep 1000");
    let hogs: HashMap<&str, Cleanup> = HOGS
        .iter()
        .map(|(what, script)| {
            let name = hull.container(&format!("hog-{what}"));
            let mut run = vec!["run", "-d", "--name", &name];
            run.extend(LIMITS);
            run.extend(["busybox", "sh", "-c", script]);
            hull.hull(run).ok();
            (*what, name)
        })
        .collect();
    let inspect = |name: &str, what: &str| {
        hull.hull(["inspect", "--format", what, name])
            .ok()
            .trim()
            .to_owned()
    };
    // Each at its limit.
    hull.eventually_within(LONG, "the end of the memory hog", || {
        match inspect(
            &hogs[MEMORY],
            "{{.State.Status}} {{.State.OOMKilled}} {{.State.ExitCode}}",
        ) {
            state if state == "exited true 137" => Ok(()),
            state => Err(state),
        }
    });
    hull.eventually_within(LONG, "the disk hog's disk being full", || {
        let logs = hull.hull(["logs", &hogs[DISK]]);
        match logs.stderr.contains(FULL) {
            true => Ok(()),
            false => Err(format!("{logs}{}", inspect(&hogs[DISK], "{{json .State}}"))),
        }
    });
    hull.eventually_within(LONG, "the fork hog having no more processes", || {
        let stats = hull
            .hull(["stats", "--no-stream", "--format", "{{.PIDs}}", &hogs[FORKS]])
            .ok();
        if stats.trim().parse().is_ok_and(|pids: u32| pids >= MOST_PROCESSES) {
            Ok(())
        } else {
            Err(stats)
        }
    });
    let log = inspect(&hogs[LOG], "{{.LogPath}}");
    let logged = || -> u64 {
        let size = hull.shell(&format!("cat {log}* | wc -c")).ok();
        size.trim().parse().unwrap_or(u64::MAX)
    };
    hull.eventually_within(LONG, "the log hog's log being full", || match logged() {
        size if size > 1 << 20 => Ok(()),
        size => Err(size.to_string()),
    });
    hull.hull(["exec", &neighbour, "true"]).ok();
    // The host's share of it is bounded.
    assert!(logged() < 3 << 20, "{} bytes of log", logged());
    for hog in hogs.values() {
        let disk = hull
            .shell(&format!("du -m $(dirname {})", inspect(hog, "{{.LogPath}}")))
            .ok();
        let mib: u64 = disk.split_whitespace().next().unwrap_or_default().parse()?;
        assert!(mib < 100, "{} takes {disk}", &**hog);
    }
    let processes = hull.shell("ls -d /proc/[0-9]* | wc -l").ok();
    assert!(processes.trim().parse::<u32>()? < 400, "{processes}");
    let groups = hull
        .shell("cd /sys/fs/cgroup/hull; for g in */; do echo $(cat $g/memory.current) $(cat $g/memory.max); done")
        .ok();
    for group in groups.lines() {
        let (current, max) = group.split_once(' ').unwrap_or_default();
        assert!(current.parse::<u64>()? <= max.parse::<u64>()?, "{groups}");
    }
    Ok(())
}
