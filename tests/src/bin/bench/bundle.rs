//! What Docker does around its runtime for `docker run --rm`, for crun and runc: a bundle with Docker's defaults, on an
//! overlay of the same image layer with a writable upper directory on disk, made for one run and removed after it.
//!
//! Docker's own daemons (dockerd, containerd, its shim) and its network are not part of it: a runtime is all that runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use system_tests::CAPABILITIES;

use crate::peers::{ROOT, peer, run};

/// Where the folder on disk is in the root that the peers run in.
pub(crate) const DISK: &str = "/disk";

/// Docker's default profile (moby's `profiles/seccomp`) for a process with the default capabilities, as it stands in a
/// bundle.
const SECCOMP: &str = include_str!("seccomp.json");

/// The memory of a microVM by default, which is the limit of these, in bytes.
const MEMORY: u64 = 512 << 20;
/// One CPU: as much of a period as the period has, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// A container of busybox.
struct Bundle {
    runtime: &'static str,
    /// Its folder as this program sees it.
    folder: PathBuf,
}

impl Bundle {
    /// Makes the folder, the configuration and the root file system, beside the image's layer.
    fn make(runtime: &'static str, args: &[&str]) -> Result<Bundle> {
        let disk = Path::new(ROOT).join(DISK.trim_start_matches('/'));
        let bundle = Bundle {
            runtime,
            folder: disk.join(format!("bench-{runtime}")),
        };
        for name in ["upper", "work", "rootfs"] {
            fs::create_dir_all(bundle.folder.join(name))?;
        }
        fs::write(
            bundle.folder.join("config.json"),
            serde_json::to_vec(&config(args)?)?,
        )?;
        let shown = |name: &str| bundle.folder.join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            disk.join("lower").display(),
            shown("upper"),
            shown("work")
        );
        let options = std::ffi::CString::new(options)?;
        mount(
            "overlay",
            bundle.folder.join("rootfs"),
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .context("mount the overlay of a bundle")?;
        Ok(bundle)
    }

    fn name(&self) -> String {
        format!("bench-{}", self.runtime)
    }

    /// `runtime ARGUMENTS... name`, and what comes behind the name.
    fn command(&self, arguments: &[&str], behind: &[&str]) -> Command {
        let name = self.name();
        peer(
            &format!("/{}", self.runtime),
            &[arguments, &[name.as_str()], behind].concat(),
        )
    }

    /// Runs it; a detached one goes on.
    fn run(&self, flags: &[&str]) -> Result<()> {
        let folder = format!("{DISK}/{}", self.name());
        let arguments = [&["run", "--bundle", &folder], flags].concat();
        // Whoever is detached keeps what it was given as its output.
        let status = self
            .command(&arguments, &[])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "{} ended with {status}", self.runtime);
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        unmount(self.folder.join("rootfs"), UnmountFlags::empty())
            .context("unmount the overlay of a bundle")?;
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

/// One round: made, run, removed.
pub(crate) fn round(runtime: &'static str) -> Result<()> {
    let bundle = Bundle::make(runtime, &["true"])?;
    let ran = bundle.run(&[]);
    bundle.remove()?;
    ran
}

/// A container that runs until it is dropped.
pub(crate) struct Running(Bundle);

impl Running {
    /// Starts it.
    pub(crate) fn start(runtime: &'static str) -> Result<Running> {
        let running = Running(Bundle::make(runtime, &["sleep", "100000"])?);
        running.0.run(&["--detach"])?;
        Ok(running)
    }

    /// Runs a command in it.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<()> {
        run(&mut self.0.command(&["exec"], command)).map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = run(&mut self.0.command(&["delete", "--force"], &[]));
        let _ = self.0.remove();
    }
}

/// Unpacks the layer of hull's busybox image, an OCI layout, to `disk`/lower.
pub(crate) fn unpack_layer(layout: &Path, disk: &Path) -> Result<()> {
    let script = r#"
        rm -rf "$2"; mkdir -p "$2/lower"
        for blob in "$1"/blobs/sha256/*; do
            if gzip -t "$blob" 2>/dev/null; then tar -xzf "$blob" -C "$2/lower"; fi
        done
        test -x "$2/lower/bin/busybox"
    "#;
    let mut command = Command::new("sh");
    command.args(["-euc", script, "unpack"]).arg(layout).arg(disk);
    run(&mut command).map(drop)
}

/// The configuration that Docker 28 hands to its runtime for `run --rm --memory 512m --cpus 1 busybox ARGS...`, with a
/// network namespace that is left empty.
fn config(args: &[&str]) -> Result<Value> {
    let seccomp: Value = serde_json::from_str(SECCOMP)?;
    let namespaces = ["mount", "network", "uts", "pid", "ipc", "cgroup"].map(|kind| json!({ "type": kind }));
    Ok(json!({
        "ociVersion": "1.0.2",
        "hostname": "bench",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=bench"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES
            }
        },
        "root": { "path": "rootfs" },
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces,
            "seccomp": seccomp,
            "resources": {
                "devices": devices(),
                "memory": { "limit": MEMORY, "swap": MEMORY * 2 },
                "cpu": { "quota": CPU_PERIOD, "period": CPU_PERIOD }
            },
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    }))
}

fn mounts() -> Value {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    json!([
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"]
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5"
            ]
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]
        ),
    ])
}

/// Every device is forbidden but these, by type, major and minor.
fn devices() -> Value {
    let allowed = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ];
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend(allowed.map(|(major, minor): (u32, Option<u32>)| {
        let mut rule = json!({ "allow": true, "type": "c", "major": major, "access": "rwm" });
        if let Some(minor) = minor {
            rule["minor"] = minor.into();
        }
        rule
    }));
    rules.into()
}
