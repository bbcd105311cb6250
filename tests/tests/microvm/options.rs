//! Options of a container, as its processes and its owner see them.

use std::fs;

use anyhow::Result;
use system_tests::{Hull, hull};

fn run(hull: &Hull, options: &[&str], script: &str) -> system_tests::Outcome {
    let run = ["run", "--rm"];
    let command = ["busybox", "sh", "-c", script];
    hull.hull(run.iter().chain(options).chain(&command))
}

#[test]
fn a_log_within_a_bound_is_read_over_its_files_and_followed_over_rotations() -> Result<()> {
    let hull = hull!();
    let name = hull.container("bounded");
    let script =
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo done >&2; exec sleep 1000";
    hull.docker([
        "run",
        "-d",
        "--name",
        &name,
        "--label",
        "tier=front end",
        "--log-opt",
        "max-size=100k",
        "--log-opt",
        "max-file=3",
        "--log-opt",
        "compress=true",
        "--log-opt",
        "labels=tier",
        "--log-opt",
        "tag={{.Name}}",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    let read = || hull.docker(["logs", &name]);
    hull.eventually("the last line", || {
        let said = read();
        if said.stderr.contains("done") {
            Ok(())
        } else {
            Err(said.stdout)
        }
    });
    let numbers = |text: &str| -> Vec<u32> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("line "));
        lines.map(|number| number.parse().unwrap()).collect()
    };
    let kept = numbers(&read().stdout);
    assert!(kept.len() > 500 && kept.len() < 3000, "{} lines", kept.len());
    assert_eq!(kept, Vec::from_iter(3000 - kept.len() as u32..3000));
    let tail = hull.hull(["logs", "-n", "1000", "--details", &name]).ok();
    let expected = format!("tag={},tier=front+end line 2999", &*name);
    assert!(tail.lines().any(|line| line == expected), "{tail}");
    let path = hull.docker(["inspect", "-f", "{{.LogPath}}", &name]).ok();
    let size = hull.shell(&format!(
        "cat {}* | wc -c; ls {}* | wc -l",
        path.trim(),
        path.trim()
    ));
    let size: Vec<u64> = size
        .ok()
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(size[0] <= 300_000 && size[1] <= 4, "{size:?}");
    Ok(())
}

#[test]
fn a_container_whose_log_is_not_kept_runs_and_is_attached_to() -> Result<()> {
    let hull = hull!();
    assert_eq!(
        run(&hull, &["--log-driver", "none"], "echo out; echo err >&2").ok(),
        "out\n"
    );
    let name = hull.container("silent");
    hull.docker([
        "run",
        "-d",
        "--name",
        &name,
        "--log-driver",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo said; exec sleep 1000",
    ])
    .ok();
    hull.docker(["logs", &name])
        .exits(1)
        .says("configured logging driver does not support reading");
    Ok(())
}

#[test]
fn containers_outlive_the_daemon_when_their_first_lines_are_not_kept_any_more() -> Result<()> {
    let hull = hull!();
    let (bounded, silent) = (
        hull.container("outlives-bounded"),
        hull.container("outlives-silent"),
    );
    let count = "echo early >&2; i=0; while :; do i=$((i+1)); echo $i; [ $i -gt 1000 ] && sleep 0.2; done";
    for (name, option) in [
        (&bounded, "--log-opt=max-size=20k"),
        (&silent, "--log-driver=none"),
    ] {
        hull.docker(["run", "-d", "--name", name, option, "busybox", "sh", "-c", count])
            .ok();
    }
    let kept = || -> Vec<u32> {
        let said = hull.docker(["logs", &bounded]).ok();
        said.lines().map(|line| line.parse().unwrap()).collect()
    };
    let counted = |least: u32| {
        hull.eventually("its count", || match kept().last() {
            Some(last) if *last > least => Ok(*last),
            last => Err(format!("{last:?}")),
        })
    };
    let before = counted(1000);
    let pid = format!("cat {}/hulld.pid", hull.runtime().display());
    let old = hull.shell(&pid).ok();
    hull.shell(&format!("kill -9 {}", old.trim())).ok();
    hull.eventually("a new daemon", || {
        let answer = hull.hull(["info"]);
        let new = hull.shell(&pid).stdout;
        if answer.code == 0 && new != old {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
    for name in [&bounded, &silent] {
        assert_eq!(
            hull.hull(["exec", name, "echo", "still here"]).ok(),
            "still here\n"
        );
    }
    counted(before);
    let kept = kept();
    assert!(kept[0] > 1, "nothing was rotated away: {kept:?}");
    assert_eq!(kept, Vec::from_iter(kept[0]..kept[0] + kept.len() as u32));
    Ok(())
}

#[test]
fn a_seccomp_profile_of_ones_own_holds_for_init_and_execs() -> Result<()> {
    let hull = hull!();
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("profile.json");
    fs::write(
        &profile,
        r#"{
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
                {"names": ["link", "linkat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}}
            ]
        }"#,
    )?;
    let option = format!("seccomp={}", profile.display());
    let script = "grep Seccomp: /proc/self/status; mkdir /x 2>&1; kill -USR1 1 2>&1; kill -0 1 && echo alive; \
                  : > /f; ln /f /g && echo linked";
    let said = run(&hull, &["--security-opt", &option], script).stdout;
    assert_eq!(
        said,
        "Seccomp:\t2\nmkdir: can't create directory '/x': No space left on device\n\
         sh: can't kill pid 1: Operation not permitted\nalive\nlinked\n"
    );
    let name = hull.container("profiled");
    hull.docker([
        "run",
        "-d",
        "--name",
        &name,
        "--security-opt",
        &option,
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    hull.docker(["exec", &name, "mkdir", "/x"])
        .exits(1)
        .says("No space left on device");
    fs::write(&profile, r#"{"defaultAction": "SCMP_ACT_SHRUG"}"#)?;
    run(&hull, &["--security-opt", &option], "true")
        .exits(125)
        .says("string SCMP_ACT_SHRUG is not a valid action for seccomp");
    Ok(())
}

#[test]
fn a_container_runs_on_the_cpus_that_it_was_given() -> Result<()> {
    let hull = hull!();
    let script = "grep Cpus_allowed_list /proc/self/status | cut -f2; nproc; cat /sys/fs/cgroup/cpuset.cpus";
    assert_eq!(run(&hull, &["--cpuset-cpus", "1"], script).ok(), "1\n1\n1\n");
    run(&hull, &["--cpuset-cpus", "900"], "true")
        .exits(125)
        .says("Requested CPUs are not available - requested 900, available: 0");
    Ok(())
}

#[test]
fn namespaces_are_private_or_those_of_the_microvm() -> Result<()> {
    let hull = hull!();
    let script = "cat /proc/self/cgroup; test -e /dev/shm && echo shm";
    assert_eq!(run(&hull, &[], script).ok(), "0::/\nshm\n");
    let options = [
        "--ipc",
        "none",
        "--cgroupns",
        "host",
        "--userns",
        "host",
        "--runtime",
        "hull",
    ];
    let seen = run(&hull, &options, script);
    assert_eq!(seen.stdout, "0::/container\n", "{seen}");
    for option in ["--ipc=host", "--pid=host", "--uts=host", "--pid=container:x"] {
        run(&hull, &[option], "true")
            .exits(125)
            .says("each container has a kernel of its own");
    }
    Ok(())
}

#[test]
fn a_disk_has_the_size_that_was_asked_for() -> Result<()> {
    let hull = hull!();
    let script = "df -m / | awk 'END {print $2}'; dd if=/dev/zero of=/big bs=1M count=300 2>&1 | grep -o 'No space left'";
    let said = run(&hull, &["--storage-opt", "size=256M"], script).stdout;
    let (size, full) = said.split_once('\n').unwrap();
    let size: u64 = size.parse()?;
    assert!((200..=256).contains(&size), "{size} MiB");
    assert_eq!(full.trim(), "No space left");
    run(&hull, &["--storage-opt", "size=huge"], "true")
        .exits(125)
        .says("invalid size: 'huge'");
    Ok(())
}
