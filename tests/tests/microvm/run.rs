//! `hull run`: what the container sees, and what comes back from it.

use anyhow::Result;
use system_tests::hull;

#[test]
fn a_container_has_a_kernel_of_its_own_and_sees_only_itself() -> Result<()> {
    let hull = hull!();
    let host_kernel = hull.shell("uname -r").ok();
    let script = "uname -r; ps; id; cat /proc/1/cgroup; hostname";
    let seen = hull
        .hull([
            "run",
            "--rm",
            "--hostname",
            "inside",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let lines: Vec<&str> = seen.lines().collect();
    assert_ne!(
        lines[0],
        host_kernel.trim(),
        "the container runs on the host's kernel"
    );
    let processes: Vec<&&str> = lines[1..]
        .iter()
        .take_while(|line| !line.starts_with("uid="))
        .collect();
    assert!(processes[0].contains("PID"), "{seen}");
    assert!(
        processes[1].trim_start().starts_with("1 root"),
        "PID 1 is not the command: {seen}"
    );
    assert!(
        processes[1].contains("sh -c uname"),
        "PID 1 is not the command: {seen}"
    );
    assert_eq!(processes.len(), 3, "more than sh and ps can be seen: {seen}");
    assert!(seen.contains("uid=0(root) gid=0(root)"), "{seen}");
    assert!(
        lines.contains(&"0::/"),
        "the cgroup of PID 1 is not the root of its namespace: {seen}"
    );
    assert_eq!(lines.last(), Some(&"inside"));
    Ok(())
}

#[test]
fn stdin_reaches_the_command_and_ends() -> Result<()> {
    let hull = hull!();
    assert_eq!(
        hull.hull_with_input(["run", "-i", "--rm", "busybox", "cat"], b"hi\n")
            .ok(),
        "hi\n"
    );
    Ok(())
}

#[test]
fn stdout_and_stderr_stay_apart() -> Result<()> {
    let hull = hull!();
    let outcome = hull.hull(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()),
        (0, "out\n", "err\n")
    );
    Ok(())
}

#[test]
fn the_exit_code_is_the_commands_or_says_why_it_never_ran() -> Result<()> {
    let hull = hull!();
    hull.hull(["run", "--rm", "busybox", "sh", "-c", "exit 3"])
        .exits(3);
    hull.hull([
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "sleep 100 & kill -KILL $!; wait $!",
    ])
    .exits(137);
    hull.hull(["run", "--rm", "busybox", "no-such-command"])
        .exits(127)
        .says("executable file not found");
    hull.hull(["run", "--rm", "busybox", "/etc/passwd"])
        .exits(126)
        .says("permission denied");
    Ok(())
}

#[test]
fn the_options_of_run_reach_the_process() -> Result<()> {
    let hull = hull!();
    let env_file = std::env::temp_dir().join(format!("hull-env-{}", std::process::id()));
    std::fs::write(&env_file, "# a comment\nFROM_FILE=yes\n")?;
    let script = "echo $ONE-$FROM_FILE; pwd; id -u; id -g; touch /x 2>&1; mount | grep ' /scratch '; nproc";
    let options = [
        "-e",
        "ONE=1",
        "--env-file",
        env_file.to_str().unwrap_or_default(),
        "-w",
        "/made/here",
        "-u",
        "1234:99",
    ];
    let rest = [
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m",
        "--cpus",
        "2",
        "-m",
        "64m",
        "busybox",
        "-c",
        script,
    ];
    let seen = hull
        .hull(
            ["run", "--rm", "--entrypoint", "sh"]
                .into_iter()
                .chain(options)
                .chain(rest),
        )
        .ok();
    std::fs::remove_file(env_file)?;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(&lines[..4], ["1-yes", "/made/here", "1234", "99"], "{seen}");
    assert!(lines[4].contains("Read-only file system"), "{seen}");
    assert!(lines[5].contains("size=1024k"), "{seen}");
    assert_eq!(lines[6], "2", "{seen}");
    Ok(())
}

#[test]
fn init_reaps_what_the_command_leaves() -> Result<()> {
    let hull = hull!();
    let script = "(sleep 0.1 & exec true) ; sh -c 'sleep 0.2 & exit' ; sleep 1; ps | grep -c '\\[sleep\\]'; ps -o pid,comm | head -2 | tail -1";
    let seen = hull
        .hull(["run", "--rm", "--init", "busybox", "sh", "-c", script])
        .stdout;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "0", "zombies are left: {seen}");
    assert!(
        !lines[1].contains(" sh"),
        "PID 1 is the command, not an init: {seen}"
    );
    Ok(())
}
