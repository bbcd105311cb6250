//! PID 1 of the helper VM.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use rustix::io::Errno as RustixErrno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::system::RebootCommand;

use super::{HOST_ROOT, PATH, STATE};

/// The modules of the image in the order they load in, one path a line.
const MODULE_LIST: &str = "/lib/modules/order";
/// Whether KVM reports what guests ask of registers that are not there.
const QUIET_KVM: &str = "/sys/module/kvm/parameters/report_ignored_msrs";
/// How long processes get between SIGTERM and SIGKILL when the VM shuts down.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The VM cannot be brought up far enough to tell its host; the reason goes to the console.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file system of the kernel's could not be mounted.
    #[error("cannot mount {kind} on {target}: {source}")]
    Mount {
        /// Its type.
        kind: &'static str,
        /// Where.
        target: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A module could not be loaded.
    #[error("cannot load the module {path}: {source}")]
    Module {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of modules could not be read, or the child not be started.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Be PID 1: bring the VM up, run the agent, and when that ends shut everything down and power off.
pub fn init() -> Result<(), InitError> {
    let agent = start_agent();
    if let Ok(agent) = &agent {
        bury_until(*agent);
    }
    end_all_processes();
    rustix::fs::sync();
    for mounted in [STATE, HOST_ROOT] {
        // Not mounted when the start failed before that point.
        let _ = unmount(mounted, UnmountFlags::empty());
    }
    let result = agent.map(|_| ());
    if let Err(e) = &result {
        eprintln!("machine-agent: {e}");
    }
    rustix::system::reboot(RebootCommand::PowerOff).map_err(|e| InitError::File {
        action: "power off",
        path: "the helper VM".into(),
        source: e.into(),
    })?;
    result
}

fn start_agent() -> Result<Pid, InitError> {
    mount_kernel_file_systems()?;
    link_descriptors()?;
    load_modules()?;
    let program = Path::new("/proc/self/exe");
    let failed = |source| InitError::File {
        action: "run",
        path: program.to_owned(),
        source,
    };
    let child = Command::new(program)
        .arg("serve")
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .spawn()
        .map_err(failed)?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| failed(io::Error::other("its process id is not valid")))
}

fn mount_kernel_file_systems() -> Result<(), InitError> {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let table = [
        ("proc", "/proc", quiet, None),
        ("sysfs", "/sys", quiet, None),
        ("devtmpfs", "/dev", MountFlags::NOSUID, None),
        (
            "devpts",
            "/dev/pts",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            Some(c"ptmxmode=0666,mode=0620,gid=5"),
        ),
        ("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, None),
        (
            "tmpfs",
            "/run",
            MountFlags::NOSUID | MountFlags::NODEV,
            Some(c"mode=0755"),
        ),
        ("tmpfs", "/tmp", MountFlags::NOSUID | MountFlags::NODEV, None),
        // Each microVM joins a control group as it starts, which otherwise waits for all CPUs.
        ("cgroup2", "/sys/fs/cgroup", quiet, Some(c"favordynmods")),
    ];
    for (kind, target, flags, data) in table {
        let failed = |source| InitError::Mount { kind, target, source };
        fs::create_dir_all(target).map_err(failed)?;
        mount(kind, target, kind, flags, data).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

/// The kernel makes devices alone. Programs that are told to read `-` open one of these: nft(8) does.
fn link_descriptors() -> Result<(), InitError> {
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, link).map_err(|source| InitError::File {
            action: "make the link",
            path: link.into(),
            source,
        })?;
    }
    Ok(())
}

/// Load the image's modules. KVM comes for both makers of processors, and one of them fits.
fn load_modules() -> Result<(), InitError> {
    let failed = |source| InitError::File {
        action: "read",
        path: MODULE_LIST.into(),
        source,
    };
    for path in fs::read_to_string(MODULE_LIST).map_err(failed)?.lines() {
        let failed = |source| InitError::Module {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST | Errno::EOPNOTSUPP | Errno::ENODEV) => {}
            Err(e) => return Err(failed(e.into())),
        }
    }
    // Every microVM that boots asks for a performance counter that is not there. The console is slow, and for errors.
    fs::write(QUIET_KVM, "N").map_err(|source| InitError::File {
        action: "write",
        path: QUIET_KVM.into(),
        source,
    })
}

/// Wait for every process that is or becomes a child of PID 1, until `agent` has ended.
fn bury_until(agent: Pid) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == agent => {
                if status.exit_status() != Some(0) {
                    eprintln!("machine-agent: the agent ended with {status:?}");
                }
                return;
            }
            Ok(_) | Err(RustixErrno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// SIGTERM to all, SIGKILL to those who stay.
fn end_all_processes() {
    let (gone, all_gone) = mpsc::channel();
    for (signal, patience) in [(Signal::TERM, TERM_PATIENCE), (Signal::KILL, KILL_PATIENCE)] {
        // kill(-1): everybody but PID 1. It fails when there is nobody.
        if rustix::process::kill_process_group(Pid::INIT, signal).is_err() {
            return;
        }
        let gone = gone.clone();
        std::thread::spawn(move || {
            while !matches!(
                rustix::process::wait(WaitOptions::empty()),
                Err(RustixErrno::CHILD)
            ) {}
            let _ = gone.send(());
        });
        if all_gone.recv_timeout(patience).is_ok() {
            return;
        }
    }
}
