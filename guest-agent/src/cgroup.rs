//! The cgroup of the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use guest_protocol::{Devices, IoLimits, Limits};
use rustix::fs::{Mode, OFlags, major, minor, open, openat, stat};
use rustix::io::{pread, write};

use crate::boot::make_directory;
use crate::extra_devices::DeviceError;
use crate::os_error::{During, OsError};
use crate::{device_filter, extra_devices};

const PATH: &str = "/sys/fs/cgroup/container";

/// The period of `cpu.max`, in microseconds.
const CPU_PERIOD_US: u32 = 100_000;

/// A cgroup v2 with all processes of the container in it, and the agent outside.
pub(crate) struct Cgroup {
    directory: OwnedFd,
    memory_events: OwnedFd,
}

impl Cgroup {
    /// A cgroup without limits, and with the device filter. It depends on nothing that the host sends, so it is made
    /// before the host speaks.
    pub(crate) fn create() -> Result<Self, OsError> {
        make_directory(PATH)?;
        let directory = open(
            PATH,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during("open", PATH)?;
        device_filter::attach(directory.as_fd(), &[]).during("attach the device filter to", PATH)?;
        let memory_events = openat(
            &directory,
            "memory.events",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during("open", format!("{PATH}/memory.events"))?;
        Ok(Self {
            directory,
            memory_events,
        })
    }

    /// Sets its limits.
    pub(crate) fn limit(&self, limits: &Limits) -> Result<(), OsError> {
        for (file, value) in settings(limits) {
            self.set(file, &value)?;
        }
        Ok(())
    }

    /// Sets how fast its processes may use the disk that this directory is on, if it is on one.
    pub(crate) fn limit_io(&self, limits: &IoLimits, directory: &str) -> Result<(), OsError> {
        if *limits == IoLimits::default() {
            return Ok(());
        }
        let disk = stat(directory).during("look at", directory)?.st_dev;
        match major(disk) {
            // A file system in memory has no driver.
            0 => Ok(()),
            number => self.set("io.max", &io_setting(number, minor(disk), limits)),
        }
    }

    /// Has its processes open these devices, too.
    pub(crate) fn allow(&self, devices: &Devices) -> Result<(), DeviceError> {
        let attached = match devices {
            Devices::All => device_filter::attach_nothing(self.as_fd()),
            Devices::Some { nodes, rules } if nodes.is_empty() && rules.is_empty() => return Ok(()),
            Devices::Some { rules, .. } => {
                let mut all = extra_devices::rules(&extra_devices::find(devices)?);
                all.extend(rules);
                device_filter::attach(self.as_fd(), &all)
            }
        };
        Ok(attached.during("attach another device filter to", PATH)?)
    }

    /// Holds all processes, or lets them go on; answers whether they are all held.
    pub(crate) fn freeze(&self, hold: bool) -> Result<bool, OsError> {
        self.set("cgroup.freeze", if hold { "1" } else { "0" })?;
        let mut buffer = [0; 256];
        let path = "cgroup.events";
        let events = openat(
            &self.directory,
            path,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .and_then(|file| pread(&file, &mut buffer, 0))
        .during("read", format!("{PATH}/{path}"))?;
        Ok(is_frozen(&String::from_utf8_lossy(&buffer[..events])))
    }

    fn set(&self, file: &str, value: &str) -> Result<(), OsError> {
        let fd = openat(
            &self.directory,
            file,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during("open", format!("{PATH}/{file}"))?;
        write(&fd, value.as_bytes())
            .during("write", format!("{value:?} to {PATH}/{file}"))
            .map(drop)
    }

    /// How many processes the out-of-memory killer has ended in it so far.
    pub(crate) fn oom_kills(&self) -> u64 {
        let mut buffer = [0; 512];
        match pread(&self.memory_events, &mut buffer, 0) {
            Ok(count) => parse_oom_kills(&String::from_utf8_lossy(&buffer[..count])),
            Err(_) => 0,
        }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The files to write and what to write to them, `Documentation/admin-guide/cgroup-v2.rst`.
fn settings(limits: &Limits) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes {
        settings.push(("memory.max", bytes.to_string()));
    }
    if let Some(bytes) = limits.memory_low_bytes {
        settings.push(("memory.low", bytes.to_string()));
    }
    if let Some(count) = limits.pids {
        settings.push(("pids.max", count.to_string()));
    }
    if let Some(quota) = limits.cpu_quota_us {
        settings.push(("cpu.max", format!("{quota} {CPU_PERIOD_US}")));
    }
    if let Some(weight) = limits.cpu_weight {
        settings.push(("cpu.weight", weight.to_string()));
    }
    if let Some(cpus) = limits.cpus {
        settings.push(("cpuset.cpus", cpu_list(cpus)));
    }
    settings
}

/// The numbers of the bits that are set.
fn cpu_list(cpus: u64) -> String {
    let set = (0..u64::BITS).filter(|number| cpus & 1 << number != 0);
    let numbers: Vec<String> = set.map(|number| number.to_string()).collect();
    numbers.join(",")
}

fn io_setting(major: u32, minor: u32, limits: &IoLimits) -> String {
    let values = [
        ("rbps", limits.read_bytes),
        ("wbps", limits.write_bytes),
        ("riops", limits.reads),
        ("wiops", limits.writes),
    ];
    let set = values.iter().filter(|(_, value)| *value > 0);
    set.fold(format!("{major}:{minor}"), |setting, (name, value)| {
        format!("{setting} {name}={value}")
    })
}

fn is_frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

fn parse_oom_kills(events: &str) -> u64 {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_that_are_set_are_written() {
        assert_eq!(settings(&Limits::default()), []);
        let limits = Limits {
            memory_bytes: Some(1 << 20),
            memory_low_bytes: Some(1 << 19),
            pids: Some(5),
            cpu_quota_us: Some(150_000),
            cpu_weight: Some(39),
            cpus: Some(0b1010_0001),
        };
        let expected = [
            ("memory.max", "1048576"),
            ("memory.low", "524288"),
            ("pids.max", "5"),
            ("cpu.max", "150000 100000"),
            ("cpu.weight", "39"),
            ("cpuset.cpus", "0,5,7"),
        ];
        let expected = expected.map(|(file, value)| (file, value.to_string()));
        assert_eq!(settings(&limits), expected);
    }

    #[test]
    fn only_rates_that_are_limited_are_written() {
        let limits = IoLimits {
            read_bytes: 1 << 20,
            writes: 7,
            ..IoLimits::default()
        };
        assert_eq!(io_setting(254, 0, &limits), "254:0 rbps=1048576 wiops=7");
    }

    #[test]
    fn a_cgroup_is_frozen_when_its_events_say_so() {
        assert!(is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("populated 1\nfrozen 0\n"));
        assert!(!is_frozen(""));
    }

    #[test]
    fn kills_are_told_from_other_events() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(parse_oom_kills(events), 2);
        assert_eq!(parse_oom_kills(""), 0);
    }
}
