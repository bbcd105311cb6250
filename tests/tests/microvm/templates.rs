//! Containers that go on from a template are containers like any other, and nobody's twins.

use std::time::Duration;

use anyhow::Result;
use system_tests::{Hull, hull};

/// How long a template may be awaited. One is made at a time; a guest that hangs while it is made is given up after a minute.
const PATIENCE: Duration = Duration::from_secs(240);

/// The template that a running container went on from; `None` for one that has booted.
fn template_of(hull: &Hull, name: &str) -> Option<String> {
    let pid = hull.hull(["inspect", "--format", "{{.State.Pid}}", name]).ok();
    let maps = hull.shell(&format!(
        "grep -o '/.*/templates/.*/memory' /proc/{}/maps",
        pid.trim()
    ));
    let memory = maps.stdout.lines().next()?;
    memory.strip_suffix("/memory").map(str::to_owned)
}

/// Starts containers of a shape until one goes on from a template, which it returns. It sleeps.
fn start_restored(hull: &Hull, name: &str, shape: &[&str], script: &str) -> String {
    let script = format!("{script}; sleep 1000");
    hull.eventually_within(PATIENCE, "a container going on from a template", || {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(shape);
        args.extend(["busybox", "sh", "-c", &script]);
        hull.hull(args).ok();
        template_of(hull, name).ok_or_else(|| {
            hull.hull(["rm", "-f", name]).ok();
            "the kernel was booted".to_owned()
        })
    })
}

/// What a container printed on its standard output, which is so many lines.
fn logs(hull: &Hull, name: &str, lines: usize) -> Vec<String> {
    hull.first_lines(name, lines);
    let logs = hull.hull(["logs", name]).ok();
    assert_eq!(logs.lines().count(), lines, "{logs}");
    logs.lines().map(str::to_owned).collect()
}

#[test]
fn containers_of_one_template_share_no_random_numbers() -> Result<()> {
    let hull = hull!();
    let script = "cd /proc/sys/kernel/random; cat boot_id uuid; head -c 48 /dev/urandom | od -An -v -tx1 | tr -d ' \\n'; echo; \
                  cat uuid; mktemp -u XXXXXXXXXXXX";
    let names: Vec<_> = (0..3).map(|n| hull.container(&format!("twin-{n}"))).collect();
    let templates: Vec<_> = names
        .iter()
        .map(|name| start_restored(&hull, name, &[], script))
        .collect();
    assert!(
        templates.iter().all(|template| *template == templates[0]),
        "{templates:?}"
    );
    let mut seen: Vec<String> = names.iter().flat_map(|name| logs(&hull, name, 5)).collect();
    assert!(seen.iter().all(|value| value.len() >= 12), "{seen:?}");
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "something was seen twice: {seen:?}");
    Ok(())
}

#[test]
fn the_clocks_of_a_restored_container_are_right_and_go_on() -> Result<()> {
    let hull = hull!();
    let name = hull.container("clock");
    let template = start_restored(&hull, &name, &[], "true");
    hull.hull(["rm", "-f", &name]).ok();
    // A guest that went on with the time of its template would be late by the template's age.
    let grow_old = format!("sleep $((6 - $(date +%s) + $(stat -c %Y {template}/state)))");
    // It is older already where that is less than no time.
    hull.shell(&grow_old);
    let age = hull.shell(&format!("echo $(($(date +%s) - $(stat -c %Y {template}/state)))"));
    assert!(age.clone().ok().trim().parse::<u64>()? > 5, "{age}");
    let now = || hull.shell("date +%s").ok().trim().parse::<u64>();
    let before = now()?;
    let script = "date +%s; cut -d. -f1 /proc/uptime; sleep 3; cut -d. -f1 /proc/uptime; date +%s";
    start_restored(&hull, &name, &[], script);
    let seen = logs(&hull, &name, 4);
    let after = now()?;
    let seen = seen
        .iter()
        .map(|line| line.parse())
        .collect::<Result<Vec<u64>, _>>()?;
    assert!(
        before <= seen[0] + 1 && seen[3] <= after + 1,
        "{before} {seen:?} {after}"
    );
    assert!(
        (3..=5).contains(&(seen[2] - seen[1])),
        "time since boot: {seen:?}"
    );
    assert!((3..=5).contains(&(seen[3] - seen[0])), "time of day: {seen:?}");
    Ok(())
}

#[test]
fn a_restored_container_of_two_processors_behaves_as_one_that_has_booted() -> Result<()> {
    let hull = hull!();
    let name = hull.container("shaped");
    let shape = ["--cpus", "2", "-m", "256m", "-v", "/tmp:/shared"];
    start_restored(
        &hull,
        &name,
        &shape,
        "nproc; touch /shared/from-$HOSTNAME && ls /shared/from-$HOSTNAME",
    );
    let seen = logs(&hull, &name, 2);
    assert_eq!(seen[0], "2");
    let run = |more: &[&str], script: &str| {
        let mut args = vec!["run", "--rm", "-i"];
        args.extend(shape);
        args.extend(more);
        args.extend(["busybox", "sh", "-c", script]);
        hull.hull_with_input(args, b"in\n")
    };
    let told = run(&[], "cat; echo err >&2; exit 7").exits(7);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("in\n", "err\n"));
    let busy = run(
        &[],
        "(while :; do :; done) & (while :; do :; done) & sleep 1; kill %1 %2; cat /proc/loadavg",
    );
    assert_eq!(busy.code, 0, "{busy}");
    // Files in memory count, too.
    run(&["--tmpfs", "/t:size=400m"], "exec dd if=/dev/zero of=/t/x bs=1M").exits(137);
    assert_eq!(
        hull.hull(["exec", &name, "sh", "-c", "rm /shared/from-*"]).code,
        0
    );
    Ok(())
}

#[test]
fn a_damaged_template_is_not_used_and_is_replaced() -> Result<()> {
    let hull = hull!();
    let name = hull.container("damaged");
    // A shape of its own: one that was damaged too often is given up.
    let memory = format!("{}m", 120 + std::process::id() % 100);
    let shape = ["-m", &memory];
    let damages = [
        "dd if=/dev/zero of=$T/state bs=1 seek=300 count=64 conv=notrunc 2>/dev/null",
        "truncate -s 1M $T/memory",
    ];
    for damage in damages {
        let template = start_restored(&hull, &name, &shape, "true");
        hull.hull(["rm", "-f", &name]).ok();
        let inode = || hull.shell(&format!("stat -c %i {template}/state")).stdout;
        let damaged = inode();
        hull.shell(&format!("T={template}; {damage}")).ok();
        let told = hull.hull(["run", "--rm", "-m", &memory, "busybox", "echo", "well"]);
        assert_eq!(told.ok(), "well\n", "after {damage}");
        assert_eq!(start_restored(&hull, &name, &shape, "true"), template);
        assert_ne!(inode(), damaged, "the template is another one after {damage}");
        hull.hull(["rm", "-f", &name]).ok();
    }
    Ok(())
}
