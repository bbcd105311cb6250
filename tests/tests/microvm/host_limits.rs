//! What a microVM may take of its host, whatever its guest does.

use anyhow::Result;
use system_tests::{Hull, hull};

/// The control group of a container that runs, as its VMM sees it.
fn cgroup(hull: &Hull, name: &str) -> String {
    let pid = hull.hull(["inspect", "--format", "{{.State.Pid}}", name]).ok();
    let group = hull
        .shell(&format!("sed -n s/^0:://p /proc/{}/cgroup", pid.trim()))
        .ok();
    format!("/sys/fs/cgroup{}", group.trim())
}

fn value(hull: &Hull, group: &str, file: &str) -> String {
    hull.shell(&format!("cat {group}/{file}")).ok().trim().to_owned()
}

#[test]
fn a_microvm_has_a_control_group_of_its_size_for_as_long_as_it_runs() -> Result<()> {
    let hull = hull!();
    let name = hull.container("grouped");
    hull.hull([
        "run",
        "-d",
        "--name",
        &name,
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let group = cgroup(&hull, &name);
    assert!(group.starts_with("/sys/fs/cgroup/hull/"), "{group}");
    // 64 MiB for the container, 65 for its kernel; then the VMM's own.
    assert_eq!(
        value(&hull, &group, "memory.max"),
        ((129 + 2 + 256) << 20).to_string()
    );
    assert_eq!(value(&hull, &group, "pids.max"), "65");
    assert_eq!(value(&hull, &group, "cpu.max"), "75000 100000");
    assert_eq!(value(&hull, &group, "cpu.weight"), "20");
    hull.hull(["update", "--cpus", "0.25", &name]).ok();
    assert_eq!(value(&hull, &group, "cpu.max"), "50000 100000");
    hull.hull(["rm", "-f", &name]).ok();
    assert_eq!(hull.shell(&format!("ls -d {group} 2>/dev/null")).stdout, "");
    Ok(())
}

#[test]
fn a_vmm_that_takes_more_than_its_share_is_ended_and_that_is_said() -> Result<()> {
    let hull = hull!();
    let name = hull.container("greedy-vmm");
    hull.start_script(&name, "sleep 1000");
    let group = cgroup(&hull, &name);
    hull.shell(&format!("echo 4M >{group}/memory.max")).ok();
    assert_eq!(hull.hull(["wait", &name]).ok(), "137\n");
    let error = hull.hull(["inspect", "--format", "{{.State.Error}}", &name]).ok();
    assert!(error.contains("the host killed it"), "{error}");
    assert_eq!(hull.shell(&format!("ls -d {group} 2>/dev/null")).stdout, "");
    Ok(())
}
