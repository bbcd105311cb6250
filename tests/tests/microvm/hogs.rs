//! Containers that take all they can get, and their neighbour. How much slower that gets is measured by `make bench`.

use std::time::Duration;

use anyhow::Result;
use system_tests::{Cleanup, Hull, hull};

/// How long it may take until one of them is at its limit, with little of two emulated CPUs.
const LONG: Duration = Duration::from_secs(180);

/// Each takes one thing without end, and is kept from more than its own of it.
const HOGS: [(&str, &str); 5] = [
    (
        "forks",
        "while :; do (while :; do sleep 1000 & done) 2>/dev/null; done",
    ),
    ("memory", "sleep 2; tail /dev/zero"),
    (
        "disk",
        "while :; do dd if=/dev/zero of=/fill bs=1M; sleep 0.2; done",
    ),
    (
        "log",
        "while :; do echo a line that is neither short nor long, for somebody to keep; done",
    ),
    ("cpu", "while :; do :; done"),
];

#[test]
fn five_that_take_all_they_can_leave_their_neighbour_alone() -> Result<()> {
    let hull = hull!();
    let neighbour = hull.container("neighbour");
    hull.start_script(&neighbour, "sleep 1000");
    let hogs: Vec<Cleanup> = HOGS
        .iter()
        .map(|(what, script)| {
            let name = hull.container(&format!("hog-{what}"));
            hull.hull([
                "run",
                "-d",
                "--name",
                &name,
                "--cpus",
                "0.3",
                "-m",
                "64m",
                "--pids-limit",
                "50",
                "--storage-opt",
                "size=64M",
                "--log-opt",
                "max-size=1m",
                "--log-opt",
                "max-file=2",
                "busybox",
                "sh",
                "-c",
                script,
            ])
            .ok();
            name
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
            &hogs[1],
            "{{.State.Status}} {{.State.OOMKilled}} {{.State.ExitCode}}",
        ) {
            state if state == "exited true 137" => Ok(()),
            state => Err(state),
        }
    });
    hull.eventually_within(LONG, "the disk hog's disk being full", || {
        let logs = hull.hull(["logs", &hogs[2]]);
        match logs.stderr.contains("No space left on device") {
            true => Ok(()),
            false => Err(format!("{logs}{}", inspect(&hogs[2], "{{json .State}}"))),
        }
    });
    hull.eventually_within(LONG, "the fork hog having no more processes", || {
        let stats = hull
            .hull(["stats", "--no-stream", "--format", "{{.PIDs}}", &hogs[0]])
            .ok();
        if stats.trim().parse().is_ok_and(|pids: u32| pids >= 49) {
            Ok(())
        } else {
            Err(stats)
        }
    });
    let log = inspect(&hogs[3], "{{.LogPath}}");
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
    for hog in &hogs {
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
