//! Many containers, at once and one after the other, and what they leave behind.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use system_tests::{Hull, hull};

use crate::survival::kill_daemon;

const COUNTED: [&str; 9] = [
    "processes",
    "fds",
    "mounts",
    "files",
    "sockets",
    "interfaces",
    "routes",
    "rules",
    "ports",
];

/// What could be left behind, counted where the daemon runs. Templates are kept on purpose.
fn census(hull: &Hull) -> Result<BTreeMap<String, u64>> {
    let (root, runtime) = (hull.state_root(), hull.runtime());
    let script = format!(
        "echo processes $(pidof hull-vmm | wc -w); echo fds $(ls /proc/$(pidof hulld)/fd | wc -l); \
         echo threads $(ls /proc/$(pidof hulld)/task | wc -l); echo mounts $(wc -l < /proc/mounts); \
         echo files $(find {} {} -not -path '*/templates*' | wc -l); echo sockets $(wc -l < /proc/net/unix); \
         echo interfaces $(ls /sys/class/net | wc -l); echo routes $(cat /proc/net/route /proc/net/ipv6_route | wc -l); \
         echo rules $(nft list ruleset | grep -vc '^$'); echo ports $(cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 | grep -c ' 0[7A] '); \
         echo cgroups $(find /sys/fs/cgroup/hull -type d -not -name 'new-*' | wc -l)",
        root.display(),
        runtime.display()
    );
    let counted = hull.shell(&script).ok();
    let counts = counted.lines().map(|line| {
        let (what, count) = line.split_once(' ').context("a line without a count")?;
        Ok((what.to_string(), count.parse()?))
    });
    counts.collect()
}

#[test]
fn twenty_containers_started_at_once_all_finish() -> Result<()> {
    let hull = hull!();
    let before = census(&hull)?;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs = (0..20).map(|n| {
            let hull = &hull;
            scope.spawn(move || {
                hull.hull([
                    "run",
                    "--rm",
                    "busybox",
                    "sh",
                    "-c",
                    &format!("echo number {n}; exit {n}"),
                ])
            })
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter()
            .map(|run| run.join().expect("a run does not panic"))
            .collect()
    });
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.exits(n as i32).stdout, format!("number {n}\n"));
    }
    nothing_is_left(&hull, &before)
}

#[test]
fn two_hundred_containers_in_a_row_leave_nothing_behind() -> Result<()> {
    let hull = hull!();
    hull.hull(["run", "--rm", "busybox", "true"]).ok();
    let before = census(&hull)?;
    for _ in 0..100 {
        hull.hull(["run", "--rm", "busybox", "true"]).ok();
        // The same ports each time: they are free again at once.
        hull.hull([
            "run",
            "--rm",
            "-p",
            "18150:80",
            "-p",
            "18151:53/udp",
            "busybox",
            "true",
        ])
        .ok();
    }
    nothing_is_left(&hull, &before)
}

#[test]
fn a_daemon_that_is_killed_among_containers_with_ports_leaves_nothing_of_them() -> Result<()> {
    let hull = hull!();
    hull.hull(["run", "--rm", "busybox", "true"]).ok();
    let before = census(&hull)?;
    let names: Vec<_> = (0..8)
        .map(|number| hull.container(&format!("ports-{number}")))
        .collect();
    std::thread::scope(|scope| {
        for (name, port) in names.iter().zip(18_160..) {
            let hull = &hull;
            scope.spawn(move || {
                let publish = format!("{port}:80");
                // Some are cut short: they are there and run, or they are not there.
                hull.hull([
                    "run", "-d", "--name", name, "-p", &publish, "busybox", "sleep", "1000",
                ])
            });
        }
        hull.eventually("some that run", || {
            let running = hull.hull(["ps", "-q", "--filter", "name=ports-"]).ok();
            if running.lines().count() > 2 {
                Ok(())
            } else {
                Err(running)
            }
        });
        kill_daemon(&hull);
    });
    for name in &names {
        hull.hull(["rm", "-f", name]);
    }
    nothing_is_left(&hull, &before)
}

/// No count is above what it was; the daemon's pool of threads may have grown and is bounded by itself.
fn nothing_is_left(hull: &Hull, before: &BTreeMap<String, u64>) -> Result<()> {
    hull.eventually("everything being gone", || {
        let after = census(hull).map_err(|error| error.to_string())?;
        let grown = |what: &str| after[what] > before[what];
        let left = COUNTED.into_iter().filter(|what| grown(what));
        let left: Vec<_> = left
            .map(|what| format!("{what}: {} then, {} now", before[what], after[what]))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    });
    Ok(())
}
