//! What a container is given beyond what every container has, and what it is kept within.

use anyhow::Result;
use system_tests::hull;

#[test]
fn a_privileged_container_has_all_of_its_microvm() -> Result<()> {
    let hull = hull!();
    let script = "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; test -w /proc/sys/vm/swappiness && echo sysctl; \
                  mkdir /m && mount -t tmpfs none /m && echo mounted; test -b /dev/vda && echo disk; \
                  dd if=/dev/vda of=/dev/null bs=512 count=1 2>/dev/null && echo read; \
                  mkdir /sys/fs/cgroup/mine && echo cgroup; test -d /proc/irq && touch /proc/irq/default_smp_affinity && echo open";
    let all = hull
        .hull(["run", "--rm", "--privileged", "busybox", "sh", "-c", script])
        .ok();
    assert_eq!(
        all,
        "CapEff:\t000001ffffffffff\nSeccomp:\t0\nsysctl\nmounted\ndisk\nread\ncgroup\nopen\n"
    );
    let plain = hull.hull(["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(plain.stdout.contains("CapEff:\t00000000a80425fb\n"), "{plain}");
    for missing in ["mounted", "disk", "read", "cgroup\n"] {
        assert!(!plain.stdout.contains(missing), "{plain}");
    }
    Ok(())
}

#[test]
fn a_privileged_exec_has_every_capability_and_its_container_has_not() -> Result<()> {
    let hull = hull!();
    let name = hull.container("exec-privileged");
    hull.start_script(&name, "sleep 1000");
    let capabilities = "grep CapEff /proc/self/status";
    let plain = hull.docker(["exec", &name, "sh", "-c", capabilities]).ok();
    let all = hull
        .docker(["exec", "--privileged", &name, "sh", "-c", capabilities])
        .ok();
    assert_eq!(plain, "CapEff:\t00000000a80425fb\n");
    assert_eq!(all, "CapEff:\t000001ffffffffff\n");
    Ok(())
}

#[test]
fn devices_of_the_microvm_are_given_with_their_rights_and_others_are_a_clear_no() -> Result<()> {
    let hull = hull!();
    let open = "stat -c %t:%T /dev/fuse /dev/net/tun /null; : < /dev/fuse && echo fuse; (: > /dev/net/tun) 2>/dev/null || echo read-only";
    let given = hull
        .docker([
            "run",
            "--rm",
            "--device",
            "/dev/fuse",
            "--device",
            "/dev/net/tun:/dev/net/tun:r",
            "--device",
            "/dev/null:/null",
            "busybox",
            "sh",
            "-c",
            open,
        ])
        .ok();
    assert_eq!(given, "a:e5\na:c8\n1:3\nfuse\nread-only\n");
    let refused = hull.docker(["run", "--rm", "--device", "/dev/sda", "busybox", "true"]);
    assert_eq!(refused.code, 125, "{refused}");
    assert!(
        refused.stderr.contains(
            "error gathering device information while adding custom device \"/dev/sda\": the kernel of the microVM has no such device"
        ),
        "{refused}"
    );
    let made = "mknod /fuse c 10 229; (: < /fuse) 2>/dev/null && echo open || echo closed";
    let rule = [
        "run",
        "--rm",
        "--device-cgroup-rule",
        "c 10:* rw",
        "busybox",
        "sh",
        "-c",
        made,
    ];
    assert_eq!(hull.hull(rule).ok(), "open\n");
    assert_eq!(
        hull.hull(["run", "--rm", "busybox", "sh", "-c", made]).ok(),
        "closed\n"
    );
    Ok(())
}

#[test]
fn limits_of_processes_kernel_memory_and_disk_reach_the_container() -> Result<()> {
    let hull = hull!();
    let script = "ulimit -n; ulimit -Hn; cat /proc/sys/kernel/msgmax; df -k /dev/shm | awk 'END {print $2}'; \
                  cat /sys/fs/cgroup/memory.low; cut -d' ' -f2- /sys/fs/cgroup/io.max; cat /proc/self/oom_score_adj; id -G; \
                  grep given /etc/hosts; cat /etc/resolv.conf";
    let seen = hull
        .hull([
            "run",
            "--rm",
            "--ulimit",
            "nofile=100:200",
            "--sysctl",
            "kernel.msgmax=4096",
            "--shm-size",
            "2m",
            "--memory-reservation",
            "8m",
            "--device-write-bps",
            "/dev/vda:1mb",
            "--oom-score-adj",
            "100",
            "--group-add",
            "777",
            "--add-host",
            "given:10.1.2.3",
            "--dns",
            "10.9.8.7",
            "--dns-search",
            "inside.example",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..5], ["100", "200", "4096", "2048", "8388608"], "{seen}");
    assert_eq!(lines[5], "rbps=max wbps=1048576 riops=max wiops=max", "{seen}");
    assert_eq!(lines[6], "100", "{seen}");
    assert!(lines[7].split(' ').any(|group| group == "777"), "{seen}");
    assert!(lines[8].starts_with("10.1.2.3"), "{seen}");
    assert!(
        seen.contains("nameserver 10.9.8.7") && seen.contains("search inside.example"),
        "{seen}"
    );
    let swap = hull.docker([
        "create",
        "--rm",
        "-m",
        "64m",
        "--memory-swap",
        "128m",
        "busybox",
        "true",
    ]);
    assert!(swap.stderr.contains("A microVM has no swap"), "{swap}");
    hull.docker(["rm", swap.stdout.trim()]).ok();
    Ok(())
}
