//! What the container uses, as the files of its cgroup tell it.

use std::os::fd::BorrowedFd;
use std::thread::available_parallelism;

use guest_protocol::{DeviceUsage, Usage};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread};
use rustix::system::sysinfo;
use rustix::time::{ClockId, clock_gettime};

use crate::os_error::{During, OsError};

/// Longer than any of the files is.
const MAX_FILE: usize = 16 * 1024;

/// Reads them.
pub(crate) fn read(cgroup: BorrowedFd<'_>) -> Result<Usage, OsError> {
    let file = |name: &str| match read_file(cgroup, name) {
        // A controller that the kernel does not have.
        Err(Errno::NOENT) => Ok(String::new()),
        text => text.during("read", name),
    };
    let number = |name: &str| Ok::<_, OsError>(file(name)?.trim().parse().ok());
    let now = clock_gettime(ClockId::Monotonic);
    let memory = sysinfo();
    let total = memory.totalram.saturating_mul(u64::from(memory.mem_unit));
    Ok(Usage {
        clock_ns: (now.tv_sec as u64)
            .saturating_mul(1_000_000_000)
            .saturating_add(now.tv_nsec as u64),
        cpus: available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        cpu: counters(&file("cpu.stat")?),
        memory_bytes: number("memory.current")?.unwrap_or_default(),
        memory_limit: number("memory.max")?.unwrap_or(total).min(total),
        memory: counters(&file("memory.stat")?),
        pids: number("pids.current")?.unwrap_or_default(),
        pids_limit: number("pids.max")?,
        io: file("io.stat")?.lines().filter_map(device).collect(),
    })
}

fn read_file(cgroup: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    let file = openat(cgroup, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = vec![0; MAX_FILE];
    let length = pread(&file, &mut text, 0)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `name value` in each line.
fn counters(text: &str) -> Vec<(String, u64)> {
    let counter = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(counter).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn device(line: &str) -> Option<DeviceUsage> {
    let mut words = line.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let mut device = DeviceUsage {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..DeviceUsage::default()
    };
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let value = value.parse().ok()?;
        match name {
            "rbytes" => device.read_bytes = value,
            "wbytes" => device.written_bytes = value,
            "rios" => device.reads = value,
            "wios" => device.writes = value,
            _ => {}
        }
    }
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_what_is_none_is_left_out() {
        let text = "usage_usec 12\nuser_usec 7\nnonsense\nempty \n";
        assert_eq!(
            counters(text),
            [("usage_usec".to_owned(), 12), ("user_usec".to_owned(), 7)]
        );
    }

    #[test]
    fn a_line_of_io_is_what_a_device_did() {
        let expected = DeviceUsage {
            major: 254,
            minor: 0,
            read_bytes: 1,
            written_bytes: 2,
            reads: 3,
            writes: 4,
        };
        assert_eq!(
            device("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"),
            Some(expected)
        );
        for nonsense in ["", "8", "8:x rbytes=1", "8:0 rbytes=x"] {
            assert_eq!(device(nonsense), None, "{nonsense}");
        }
    }
}
