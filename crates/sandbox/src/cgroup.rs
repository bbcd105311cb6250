//! The control group of a microVM on its host (cgroup v2, Documentation/admin-guide/cgroup-v2.rst): whatever becomes of its
//! guest, and of its VMM, it takes no more of the host than this.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Result, SandboxError};

/// Where the hierarchy is mounted on every system that has one.
const HIERARCHY: &str = "/sys/fs/cgroup";
/// The group that those of all microVMs are made in.
const PARENT: &str = "hull";
/// What has to be there to hold a microVM.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What a VMM takes beside the memory of its guest, in MiB: itself, KVM's page tables, buffers of sockets. What the host's page
/// cache holds of its files counts as well, and gives way first.
const VMM_MEMORY_MIB: u64 = 256;
/// The most that a VMM takes for files of shared folders that its guest knows, in MiB: it has each open (which pins some 1.7 KiB of
/// its host's kernel memory), and virtio-fs lets a guest know 2^20.
const FOLDERS_MEMORY_MIB: u64 = 1792;
/// The page tables of a guest grow with its memory.
const MEMORY_PER_PAGE_TABLES: u64 = 64;
/// The threads of a VMM beside its vCPUs. It has a handful for each device.
const VMM_THREADS: u64 = 64;
/// The period of `cpu.max` in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// CPU time that a VMM may take in a period beside its vCPUs, in microseconds: its devices work on threads of their own.
const VMM_CPU_US: u64 = 25_000;
/// `cpu.weight` of a group that nobody gave one.
const DEFAULT_WEIGHT: u32 = 100;
/// Processes that were killed are gone within this, or the host has other troubles.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The share of the host's CPUs that a microVM gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuShare {
    /// CPU time of its vCPUs in 100 ms, in microseconds; `None` is all that they can take.
    pub quota_us: Option<u64>,
    /// Its weight against others, 1 to 10000; `None` is 100.
    pub weight: Option<u32>,
}

/// Makes the group in which each microVM gets its own; where it is. Fails where the host has no cgroup v2, or does not let this
/// process have it.
pub fn open_cgroup() -> io::Result<PathBuf> {
    open_beneath(Path::new(HIERARCHY))
}

fn open_beneath(hierarchy: &Path) -> io::Result<PathBuf> {
    let list = hierarchy.join("cgroup.controllers");
    let has = fs::read_to_string(&list).map_err(failed("read", &list))?;
    if let Some(missing) = CONTROLLERS
        .iter()
        .find(|wanted| !has.split_whitespace().any(|has| has == **wanted))
    {
        let text = format!("{} has no controller '{missing}'", hierarchy.display());
        return Err(io::Error::other(text));
    }
    let parent = hierarchy.join(PARENT);
    make_group(&parent)?;
    for group in [hierarchy, &parent] {
        let file = group.join("cgroup.subtree_control");
        let enable = CONTROLLERS.map(|controller| format!("+{controller}")).join(" ");
        fs::write(&file, enable).map_err(failed("write", &file))?;
    }
    Ok(parent)
}

fn make_group(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(failed("make the control group", group)(error))
        }
        _ => Ok(()),
    }
}

/// What was tried on what.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{action} {}: {error}", path.display()))
}

/// Makes a group for a microVM of this size. The file is for its VMM to join it by: who writes `0` to it is in.
pub(crate) fn make(group: &Path, vcpus: u8, memory_mib: u64, folders: bool) -> Result<File> {
    fs::create_dir(group).map_err(SandboxError::file("make the control group", group))?;
    fill(group, vcpus, memory_mib, folders).inspect_err(|_| {
        // Nothing is in it yet.
        let _ = fs::remove_dir(group);
    })
}

fn fill(group: &Path, vcpus: u8, memory_mib: u64, folders: bool) -> Result<File> {
    // A guest takes memory of its own for each file that it knows, two thirds of what its VMM takes.
    let folders = if folders {
        (memory_mib + memory_mib / 2).min(FOLDERS_MEMORY_MIB)
    } else {
        0
    };
    let memory = memory_mib + memory_mib / MEMORY_PER_PAGE_TABLES + VMM_MEMORY_MIB + folders;
    set(group, "memory.max", &format!("{memory}M"))?;
    set(group, "pids.max", &(VMM_THREADS + u64::from(vcpus)).to_string())?;
    let members = group.join("cgroup.procs");
    OpenOptions::new()
        .write(true)
        .open(&members)
        .map_err(SandboxError::file("open", &members))
}

/// Gives a group its share of the CPUs.
pub(crate) fn share(group: &Path, share: CpuShare) -> Result<()> {
    let max = match share.quota_us {
        Some(quota) => format!("{} {CPU_PERIOD_US}", quota.saturating_add(VMM_CPU_US)),
        None => format!("max {CPU_PERIOD_US}"),
    };
    set(group, "cpu.max", &max)?;
    set(
        group,
        "cpu.weight",
        &share.weight.unwrap_or(DEFAULT_WEIGHT).to_string(),
    )
}

fn set(group: &Path, name: &str, value: &str) -> Result<()> {
    let file = group.join(name);
    fs::write(&file, value).map_err(SandboxError::file("write", &file))
}

/// Whether the host has ended a process of the group for want of memory.
pub(crate) fn is_out_of_memory(group: &Path) -> bool {
    let kills = |line: &str| line.strip_prefix("oom_kill ")?.parse::<u64>().ok();
    fs::read_to_string(group.join("memory.events"))
        .is_ok_and(|events| events.lines().find_map(kills).is_some_and(|kills| kills > 0))
}

/// Removes a group and whatever is still in it. Takes the thread until that has ended.
pub(crate) fn remove(group: &Path) -> io::Result<()> {
    match fs::remove_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            fs::write(group.join("cgroup.kill"), "1")?;
            wait_until_empty(group)?;
            fs::remove_dir(group)
        }
        removed => removed,
    }
}

/// `cgroup.events` tells with POLLPRI that it has changed since it was read.
fn wait_until_empty(group: &Path) -> io::Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    let mut events = File::open(group.join("cgroup.events"))?;
    loop {
        let mut text = String::new();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(
            &mut [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)],
            Some(&left),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files of a group; the kernel makes them in a real one.
    fn hierarchy(controllers: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), controllers).unwrap();
        folder
    }

    #[test]
    fn a_host_without_the_controllers_is_told_which_one_is_missing() {
        let folder = hierarchy("cpuset cpu io pids\n");
        let error = open_beneath(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no controller 'memory'"), "{error}");
        assert!(!folder.path().join(PARENT).exists());
    }

    #[test]
    fn a_host_without_cgroup_v2_is_told_what_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let error = open_beneath(folder.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("read ") && error.contains("/cgroup.controllers: "),
            "{error}"
        );
    }

    #[test]
    fn a_group_holds_the_guest_and_its_vmm_and_no_more() {
        let folder = hierarchy("cpu memory pids\n");
        let parent = open_beneath(folder.path()).unwrap();
        assert_eq!(open_beneath(folder.path()).unwrap(), parent, "a second time");
        let group = parent.join("vm");
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        let value = |name: &str| fs::read_to_string(group.join(name)).unwrap();
        let memory = |memory_mib, folders| {
            fill(&group, 2, memory_mib, folders).unwrap();
            value("memory.max")
        };
        assert_eq!(memory(512, false), "776M");
        assert_eq!(memory(512, true), "1544M");
        assert_eq!(memory(4096, true), "6208M");
        assert_eq!(value("pids.max"), "66");
        let quota = CpuShare {
            quota_us: Some(50_000),
            weight: None,
        };
        share(&group, quota).unwrap();
        assert_eq!(
            (value("cpu.max"), value("cpu.weight")),
            ("75000 100000".into(), "100".into())
        );
        share(&group, CpuShare::default()).unwrap();
        assert_eq!(value("cpu.max"), "max 100000");
    }

    #[test]
    fn an_end_for_want_of_memory_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_out_of_memory(folder.path()));
        let events =
            |kills: u32| format!("low 0\nhigh 0\nmax 7\noom 1\noom_kill {kills}\noom_group_kill 0\n");
        fs::write(folder.path().join("memory.events"), events(0)).unwrap();
        assert!(!is_out_of_memory(folder.path()));
        fs::write(folder.path().join("memory.events"), events(1)).unwrap();
        assert!(is_out_of_memory(folder.path()));
    }

    #[test]
    fn a_group_that_is_gone_needs_no_removal() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("none")).unwrap();
    }
}
