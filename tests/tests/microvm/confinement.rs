//! What a container's processes may not do, in the guest.

use anyhow::Result;
use system_tests::{Hull, hull};

fn inside(hull: &Hull, options: &[&str], script: &str) -> String {
    let args = ["run", "--rm"]
        .into_iter()
        .chain(options.iter().copied())
        .chain(["busybox", "sh", "-c", script]);
    let outcome = hull.hull(args);
    outcome.stdout + &outcome.stderr
}

#[test]
fn capabilities_are_dockers_fourteen_and_can_be_changed() -> Result<()> {
    let hull = hull!();
    let script = "grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status";
    let default = inside(&hull, &[], script);
    for line in [
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
    ] {
        assert!(default.contains(line), "{default}");
    }
    let user = inside(&hull, &["-u", "1000"], script);
    assert!(
        user.contains("CapEff:\t0000000000000000") && user.contains("CapBnd:\t00000000a80425fb"),
        "{user}"
    );
    let changed = inside(&hull, &["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], script);
    assert!(changed.contains("CapEff:\t0000000000001000"), "{changed}");
    Ok(())
}

#[test]
fn mounts_namespaces_and_the_kernels_knobs_are_out_of_reach() -> Result<()> {
    let hull = hull!();
    let attempts = [
        "mount -t tmpfs t /mnt && echo MOUNTED",
        "mount -o remount,rw /proc/sys && echo REMOUNTED",
        "unshare -U true && echo UNSHARED",
        "echo 1 > /proc/sys/kernel/panic && echo TUNED",
        "echo max > /sys/fs/cgroup/pids.max && echo UNLIMITED",
        "reboot -f && echo REBOOTED",
        "grep Seccomp: /proc/self/status; echo survived",
    ];
    let seen = inside(&hull, &[], &attempts.join("; "));
    let done = seen
        .lines()
        .filter(|line| line.chars().all(char::is_uppercase))
        .collect::<Vec<_>>();
    assert!(done.is_empty(), "{done:?} was possible: {seen}");
    assert!(
        seen.contains("Seccomp:\t2") && seen.contains("survived"),
        "{seen}"
    );
    Ok(())
}

#[test]
fn devices_are_the_standard_ones_and_the_disk_is_not_among_them() -> Result<()> {
    let hull = hull!();
    let seen = inside(
        &hull,
        &[],
        "ls /dev | tr '\\n' ' '; mknod /disk b 254 0 && cat /disk",
    );
    for name in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "stdin",
    ] {
        assert!(
            seen.split_whitespace().any(|word| word == name),
            "{name} is missing: {seen}"
        );
    }
    assert!(!seen.contains("vda") && !seen.contains("vsock"), "{seen}");
    assert!(
        seen.contains("Operation not permitted"),
        "the disk can be opened: {seen}"
    );
    Ok(())
}

#[test]
fn memory_over_the_limit_ends_the_process_that_took_it() -> Result<()> {
    let hull = hull!();
    let name = hull.container("greedy");
    hull.hull([
        "run",
        "--name",
        &name,
        "-m",
        "24m",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=60M",
        "count=1",
    ]);
    assert_eq!(
        hull.hull(["inspect", "--format", "{{.State.OOMKilled}}", &name])
            .ok()
            .trim(),
        "true"
    );
    Ok(())
}

#[test]
fn supplementary_groups_come_from_the_images_own_files() -> Result<()> {
    let hull = hull!();
    let name = hull.container("groups");
    let script = "echo 'worker:x:500:500::/home/worker:/bin/sh' >> /etc/passwd; \
                  printf 'worker:x:500:\\ncrew:x:600:worker\\n' >> /etc/group; echo written; exec sleep 1000";
    hull.start_script(&name, script);
    assert_eq!(hull.first_lines(&name, 1), ["written"]);
    let id = hull
        .hull([
            "exec",
            "-u",
            "worker",
            &name,
            "sh",
            "-c",
            "id -u; id -G; echo $HOME",
        ])
        .ok();
    assert_eq!(id, "500\n500 600\n/home/worker\n");
    let unknown = hull.hull(["exec", "-u", "nobody-here", &name, "id"]).exits(126);
    assert!(
        unknown.stdout.contains("unable to find user nobody-here"),
        "{unknown}"
    );
    Ok(())
}
