//! What is left standing when a process of hull is killed.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use system_tests::{Hull, hull};

/// Kills the daemon; the next command has it running again.
pub(crate) fn kill_daemon(hull: &Hull) {
    kill_daemon_within(hull, Duration::from_secs(60));
}

fn kill_daemon_within(hull: &Hull, patience: Duration) {
    let old = hull.shell("pidof hulld").ok();
    hull.shell("kill -9 $(pidof hulld)").ok();
    hull.eventually_within(patience, "a new daemon", || {
        let answer = hull.hull(["info"]);
        let new = hull.shell("pidof hulld").stdout;
        if answer.code == 0 && !new.trim().is_empty() && new != old {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
}

#[test]
fn containers_outlive_the_daemon_with_their_logs() -> Result<()> {
    let hull = hull!();
    let names: Vec<_> = (0..3).map(|n| hull.container(&format!("outlives-{n}"))).collect();
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";
    for name in &names {
        hull.start_script(name, script);
    }
    kill_daemon(&hull);
    let running = hull.hull(["ps", "--format", "{{.Names}}"]).ok();
    for name in &names {
        assert!(
            running.lines().any(|line| line == &**name),
            "{} is not listed: {running}",
            &**name
        );
        assert_eq!(
            hull.hull(["exec", name, "echo", "still here"]).ok(),
            "still here\n"
        );
        let before = hull.hull(["logs", name]).ok().lines().count();
        hull.first_lines(name, before + 6);
        let logs = hull.hull(["logs", name]).ok();
        let numbers: Vec<usize> = logs.lines().map(str::parse).collect::<Result<_, _>>()?;
        assert!(
            numbers.iter().copied().eq(1..=numbers.len()),
            "lines of the log are lost or doubled: {numbers:?}"
        );
    }
    Ok(())
}

#[test]
fn a_container_that_ends_while_there_is_no_daemon_keeps_its_exit_code() -> Result<()> {
    let hull = hull!();
    let name = hull.container("unseen");
    hull.hull([
        "run",
        "-d",
        "-i",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "sleep 2; exit 6",
    ])
    .ok();
    kill_daemon(&hull);
    assert_eq!(hull.hull(["wait", &name]).ok(), "6\n");
    Ok(())
}

#[test]
fn a_killed_vmm_is_reported_with_a_reason_and_leaves_nothing() -> Result<()> {
    let hull = hull!();
    let name = hull.container("killed");
    let id = hull
        .hull(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])
        .ok();
    let attached = hull
        .command(["attach", "--no-stdin", &name])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let short = &id[..12];
    let pid = hull.hull(["inspect", "--format", "{{.State.Pid}}", &name]).ok();
    let pid = pid.trim();
    let executable = hull.shell(&format!("readlink /proc/{pid}/exe")).ok();
    assert!(
        executable.trim().ends_with("/hull-vmm"),
        "the container's pid {pid} is that of {executable}"
    );
    hull.shell(&format!("kill -9 {pid}")).ok();
    assert_eq!(hull.hull(["wait", &name]).ok(), "137\n");
    attached.wait_with_output()?;
    let state = hull
        .hull(["inspect", "--format", "{{.State.Status}} {{.State.Error}}", &name])
        .ok();
    assert!(
        state.starts_with("exited ") && state.contains("kill"),
        "no reason is given: {state}"
    );
    hull.hull(["rm", &name]).ok();
    let root = hull.state_root();
    let runtime = hull.runtime();
    let left = hull.shell(&format!(
        "find {} {} -name '*{short}*'; mount | grep {short}; pidof hull-vmm | grep -w {pid}",
        root.display(),
        runtime.display()
    ));
    assert_eq!(left.stdout, "", "something is left of the container");
    Ok(())
}

#[test]
fn a_daemon_starts_although_a_vmm_does_not_answer_and_ends_that_one() -> Result<()> {
    let hull = hull!();
    let (silent, other) = (hull.container("silent-vmm"), hull.container("beside-it"));
    hull.start_script(&silent, "sleep 1000");
    hull.start_script(&other, "sleep 1000");
    let pid = hull.hull(["inspect", "--format", "{{.State.Pid}}", &silent]).ok();
    let pid = pid.trim();
    // The end of whoever started it ends a process that is stopped (setpgid(2), of orphaned process groups): that one has to be
    // gone before.
    kill_daemon(&hull);
    hull.shell(&format!("kill -STOP {pid}")).ok();
    kill_daemon_within(&hull, Duration::from_secs(180));
    let state = hull
        .hull([
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.Error}}",
            &silent,
        ])
        .ok();
    assert!(
        state.starts_with("exited ") && state.contains("its VMM does not answer"),
        "{state}"
    );
    assert_eq!(hull.shell(&format!("ls -d /proc/{pid} 2>/dev/null")).stdout, "");
    hull.hull(["exec", &other, "true"]).ok();
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_while_it_makes_a_template_leaves_nothing_of_it() -> Result<()> {
    let hull = hull!();
    // A shape of its own, so that there is no template yet.
    let memory = format!("{}m", 140 + std::process::id() % 500);
    let runtime = hull.runtime();
    let unfinished = || {
        let find = format!("find {} -name 'new-*'", runtime.display());
        hull.shell(&find).ok()
    };
    hull.hull(["run", "--rm", "-m", &memory, "busybox", "true"]).ok();
    let begun = unfinished();
    assert_eq!(begun.lines().count(), 2, "its folder and its sockets: {begun}");
    kill_daemon(&hull);
    hull.eventually("what was half made being removed", || {
        let left = unfinished();
        let vmms = hull
            .shell("for p in $(pidof hull-vmm); do tr '\\0' ' ' </proc/$p/cmdline; ls -l /proc/$p/fd; done")
            .stdout;
        match left.is_empty() && !vmms.contains("templates/new-") {
            true => Ok(()),
            false => Err(format!("{left}{vmms}")),
        }
    });
    hull.hull(["run", "--rm", "-m", &memory, "busybox", "true"]).ok();
    Ok(())
}
