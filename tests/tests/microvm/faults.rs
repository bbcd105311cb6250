//! The daemon killed at any moment of what it does, a clock that jumps, a disk that is full: nothing is lost that was
//! acknowledged, nothing is left half made, and no name is stuck.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use system_tests::{Hull, Outcome, hull};

/// How often each operation is cut short.
const ROUNDS: u32 = 10;

/// Kills the daemon when it is told to, from a shell that runs already where the daemon does.
struct Killer {
    shell: Child,
}

impl Killer {
    fn new(hull: &Hull) -> Result<Killer> {
        let script = "while read -r pause; do usleep $pause; kill -9 $(pidof hulld); done";
        let shell = hull
            .shell_command(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Killer { shell })
    }

    fn kill_after(&mut self, pause: Duration) -> Result<()> {
        let stdin = self.shell.stdin.as_mut().context("the shell has an input")?;
        writeln!(stdin, "{}", pause.as_micros())?;
        Ok(())
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A moment of this span, another one at each call.
fn moment_of(span: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A multiplicative hash spreads what the clock counts evenly.
    let spread = u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    span.mul_f64(spread as f64 / f64::from(u32::MAX))
}

fn daemon(hull: &Hull) -> String {
    hull.shell("pidof hulld").stdout.trim().to_owned()
}

/// Carries an operation out again and again, has the daemon killed during it, and has it looked at what came of it. An operation
/// is given a name that is its own.
fn cut_short(
    hull: &Hull,
    what: &str,
    prepare: impl Fn(&str),
    operation: impl Fn(&str) -> Vec<String>,
    look: impl Fn(&str, &Outcome),
) -> Result<()> {
    let mut killer = Killer::new(hull)?;
    // Its length, when nobody disturbs it.
    let name = format!("{what}-whole-{}", std::process::id());
    prepare(&name);
    let began = Instant::now();
    let outcome = hull.hull(operation(&name));
    let whole = began.elapsed();
    assert_eq!(outcome.code, 0, "{what}: {outcome}");
    look(&name, &outcome);
    for round in 0..ROUNDS {
        let name = format!("{what}-{round}-{}", std::process::id());
        prepare(&name);
        let old = daemon(hull);
        let moment = moment_of(whole);
        killer.kill_after(moment)?;
        let outcome = hull.hull(operation(&name));
        hull.eventually("a new daemon", || {
            let new = daemon(hull);
            match !new.is_empty() && new != old && hull.hull(["info"]).code == 0 {
                true => Ok(()),
                false => Err(format!("{old} was killed, {new} is there")),
            }
        });
        println!(
            "{what} {round}: killed at {moment:?} of {whole:?}: {}",
            outcome.code
        );
        look(&name, &outcome);
    }
    nothing_is_left_over(hull);
    Ok(())
}

/// Every folder, process and control group of a microVM belongs to a container that is listed.
fn nothing_is_left_over(hull: &Hull) {
    let (root, runtime) = (hull.state_root(), hull.runtime());
    let (root, runtime) = (root.display(), runtime.display());
    hull.eventually("everything being somebody's", || {
        let all = hull.hull(["ps", "-aq", "--no-trunc"]).ok();
        let mut folders: Vec<_> = all.lines().map(str::to_owned).collect();
        folders.sort();
        let running = hull.hull(["ps", "-q"]).ok();
        let mut microvms: Vec<_> = running.lines().map(str::to_owned).collect();
        microvms.sort();
        let list =
            |script: &str| -> Vec<String> { hull.shell(script).stdout.lines().map(str::to_owned).collect() };
        let found = [
            list(&format!("ls {root}/containers")),
            list(&format!("ls {runtime}/vm | grep -v ^new-")),
            list("cd /sys/fs/cgroup/hull && ls -d */ | tr -d / | grep -v ^new-"),
        ];
        let wanted = [folders, microvms.clone(), microvms];
        match found == wanted {
            true => Ok(()),
            false => Err(format!(
                "containers, sockets, control groups: {found:?} instead of {wanted:?}"
            )),
        }
    });
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_daemon_killed_in_create_loses_no_container_and_leaves_no_name() -> Result<()> {
    let hull = hull!();
    cut_short(
        &hull,
        "create",
        |_| {},
        |name| words(&["create", "--name", name, "busybox", "true"]),
        |name, outcome| {
            let there = hull.hull(["inspect", name]).code == 0;
            assert!(there || outcome.code != 0, "acknowledged, and lost: {outcome}");
            if there {
                hull.hull(["rm", name]).ok();
            }
            hull.hull(["create", "--name", name, "busybox", "true"]).ok();
            hull.hull(["rm", name]).ok();
        },
    )
}

#[test]
fn a_daemon_killed_in_start_leaves_a_container_that_runs_or_can_be_started() -> Result<()> {
    let hull = hull!();
    cut_short(
        &hull,
        "start",
        |name| {
            drop(
                hull.hull(["create", "--name", name, "busybox", "sleep", "1000"])
                    .ok(),
            )
        },
        |name| words(&["start", name]),
        |name, outcome| {
            let status = hull.hull(["inspect", "--format", "{{.State.Status}}", name]).ok();
            if outcome.code == 0 {
                assert_eq!(status, "running\n", "acknowledged, and not so");
            }
            if status != "running\n" {
                hull.hull(["start", name]).ok();
            }
            hull.hull(["exec", name, "true"]).ok();
            hull.hull(["rm", "-f", name]).ok();
        },
    )
}

#[test]
fn a_daemon_killed_in_exec_disturbs_no_container() -> Result<()> {
    let hull = hull!();
    cut_short(
        &hull,
        "exec",
        |name| drop(hull.start_script(name, "sleep 1000")),
        |name| words(&["exec", name, "sh", "-c", "echo begun; sleep 0.2; echo done"]),
        |name, outcome| {
            if outcome.code == 0 {
                assert_eq!(outcome.stdout, "begun\ndone\n");
            }
            assert_eq!(hull.hull(["exec", name, "echo", "fine"]).ok(), "fine\n");
            hull.hull(["rm", "-f", name]).ok();
        },
    )
}

#[test]
fn a_daemon_killed_in_commit_leaves_a_whole_image_or_none_and_a_container_that_goes_on() -> Result<()> {
    let hull = hull!();
    cut_short(
        &hull,
        "commit",
        |name| {
            hull.start_script(name, "i=0; while :; do i=$((i+1)); sleep 0.05; done");
            hull.hull([
                "exec",
                name,
                "sh",
                "-c",
                "head -c 1000000 /dev/urandom >/big; md5sum /big >/sum",
            ])
            .ok();
        },
        |name| words(&["commit", name, name]),
        |name, outcome| {
            let there = hull.hull(["image", "inspect", name]).code == 0;
            assert!(there || outcome.code != 0, "acknowledged, and lost: {outcome}");
            if there {
                let checked = hull.hull(["run", "--rm", name, "md5sum", "-c", "/sum"]).ok();
                assert_eq!(checked, "/big: OK\n");
                hull.hull(["rmi", name]).ok();
            }
            let status = hull.hull(["inspect", "--format", "{{.State.Status}}", name]).ok();
            assert_eq!(status, "running\n", "held by a commit that nobody carries out");
            hull.hull(["exec", name, "true"]).ok();
            hull.hull(["rm", "-f", name]).ok();
        },
    )
}

#[test]
fn a_daemon_killed_in_rm_leaves_the_container_or_nothing() -> Result<()> {
    let hull = hull!();
    cut_short(
        &hull,
        "rm",
        |name| {
            drop(
                hull.hull(["create", "--name", name, "-v", "/data", "busybox", "true"])
                    .ok(),
            )
        },
        |name| words(&["rm", "-v", name]),
        |name, outcome| {
            let there = hull.hull(["inspect", name]).code == 0;
            assert!(!(there && outcome.code == 0), "removed, and there again");
            if there {
                hull.hull(["rm", "-v", name]).ok();
            }
            hull.hull(["create", "--name", name, "busybox", "true"]).ok();
            hull.hull(["rm", name]).ok();
        },
    )
}

#[test]
fn a_daemon_killed_in_volume_create_leaves_a_volume_or_none() -> Result<()> {
    let hull = hull!();
    cut_short(
        &hull,
        "volume",
        |_| {},
        |name| words(&["volume", "create", "--label", "a=b", name]),
        |name, outcome| {
            let found = hull.hull(["volume", "inspect", "--format", "{{.Labels.a}}", name]);
            assert!(
                found.code == 0 || outcome.code != 0,
                "acknowledged, and lost: {outcome}"
            );
            if found.code == 0 {
                assert_eq!(found.stdout, "b\n", "half a volume");
                hull.hull(["volume", "rm", name]).ok();
            }
            hull.hull(["volume", "create", name]).ok();
            hull.hull(["volume", "rm", name]).ok();
        },
    )
}

/// Sets the clock where the daemon runs back to what it would be, however the test ends.
struct ClockSet<'a> {
    hull: &'a Hull,
    by: i64,
}

impl ClockSet<'_> {
    fn jump(&mut self, seconds: i64) {
        self.by += seconds;
        self.hull
            .shell(&format!("date -s @$(($(date +%s) + {seconds}))"))
            .ok();
    }
}

impl Drop for ClockSet<'_> {
    fn drop(&mut self) {
        let back = -self.by;
        self.jump(back);
    }
}

#[test]
fn a_clock_that_jumps_disturbs_no_container_and_is_followed_by_it() -> Result<()> {
    const DAY: i64 = 86_400;
    let hull = hull!();
    if hull.place() == system_tests::Place::Host {
        println!("SKIPPED: the clock of this host is not for tests to set");
        return Ok(());
    }
    let name = hull.container("clock");
    hull.hull([
        "run",
        "-d",
        "--name",
        &name,
        "--health-cmd",
        "true",
        "--health-interval",
        "300ms",
        "busybox",
        "sh",
        "-c",
        "i=0; while :; do i=$((i+1)); echo $i; sleep 0.5; done",
    ])
    .ok();
    let mut clock = ClockSet { hull: &hull, by: 0 };
    for (jump, wanted) in [(DAY, "Up 24 hours"), (-3 * DAY, "Up ")] {
        clock.jump(jump);
        let filter = format!("name={}", &*name);
        let status = hull
            .hull(["ps", "--filter", &filter, "--format", "{{.Status}}"])
            .ok();
        assert!(status.starts_with(wanted) && !status.contains('-'), "{status}");
        assert_eq!(hull.hull(["exec", &name, "echo", "fine"]).ok(), "fine\n");
        let said = hull.hull(["logs", &name]).ok().lines().count();
        hull.first_lines(&name, said + 2);
        let checks = |hull: &Hull| {
            hull.hull(["inspect", "--format", "{{json .State.Health.Log}}", &name])
                .ok()
        };
        let before = checks(&hull);
        hull.eventually("another health check", || match checks(&hull) {
            log if log == before => Err(log),
            _ => Ok(()),
        });
        hull.eventually("the guest's clock following", || {
            let host: i64 = hull.shell("date +%s").ok().trim().parse().unwrap_or(0);
            let guest: i64 = hull
                .hull(["exec", &name, "date", "+%s"])
                .ok()
                .trim()
                .parse()
                .unwrap_or(0);
            match (host - guest).abs() < 30 {
                true => Ok(()),
                false => Err(format!("{host} on the host, {guest} in the guest")),
            }
        });
    }
    drop(clock);
    let began = Instant::now();
    hull.hull(["stop", "-t", "1", &name]).ok();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    Ok(())
}

/// Gives the room back, however the test ends.
struct FullDisk<'a> {
    hull: &'a Hull,
    file: String,
}

impl<'a> FullDisk<'a> {
    /// Takes all room but a little where the state lies.
    fn fill(hull: &'a Hull) -> FullDisk<'a> {
        let root = hull.state_root();
        let full = FullDisk {
            hull,
            file: root.join("filler").display().to_string(),
        };
        // The first takes what can be had at once; what is left over goes block by block.
        let script = format!(
            "fallocate -l $(($(df -k {} | tail -n 1 | awk '{{print $4}}') - 4096))k {file}; dd if=/dev/zero of={file}.rest bs=64k; true",
            root.display(),
            file = full.file
        );
        hull.shell(&script).ok();
        full
    }
}

impl Drop for FullDisk<'_> {
    fn drop(&mut self) {
        self.hull
            .shell(&format!("rm -f {file} {file}.rest", file = self.file))
            .ok();
    }
}

#[test]
fn a_full_disk_is_an_error_to_who_writes_and_disturbs_nobody_else() -> Result<()> {
    let hull = hull!();
    if hull.place() == system_tests::Place::Host {
        println!("SKIPPED: the disk of this host is not for tests to fill");
        return Ok(());
    }
    let (writer, quiet) = (hull.container("writer"), hull.container("quiet"));
    hull.start_script(&writer, "sleep 1000");
    hull.start_script(&quiet, "sleep 1000");
    let full = FullDisk::fill(&hull);
    // More than the guest's memory, so that it has to reach the disk.
    let written = hull.hull([
        "exec",
        &writer,
        "sh",
        "-c",
        "dd if=/dev/zero of=/big bs=1M count=1500 2>&1 && sync && echo all was written",
    ]);
    assert!(!written.stdout.contains("all was written"), "{written}");
    assert_eq!(hull.hull(["exec", &quiet, "echo", "fine"]).ok(), "fine\n");
    let created = hull.hull([
        "create",
        "--name",
        &format!("{}-more", &*writer),
        "busybox",
        "true",
    ]);
    let removed = hull.hull(["rm", &format!("{}-more", &*writer)]);
    assert!(
        created.code == 0 || created.stderr.contains("No space left"),
        "{created}"
    );
    assert_eq!(
        created.code == 0,
        removed.code == 0,
        "half a container: {created}{removed}"
    );
    hull.hull(["ps", "-a"]).ok();
    drop(full);
    assert_eq!(
        hull.hull([
            "exec",
            &quiet,
            "sh",
            "-c",
            "echo kept >/file && sync && cat /file"
        ])
        .ok(),
        "kept\n"
    );
    hull.hull(["restart", "-t", "0", &quiet]).ok();
    assert_eq!(hull.hull(["exec", &quiet, "cat", "/file"]).ok(), "kept\n");
    hull.hull(["rm", "-f", &writer]).ok();
    hull.hull(["run", "--rm", "busybox", "true"]).ok();
    nothing_is_left_over(&hull);
    Ok(())
}
