//! What the container uses, as the files of its cgroup and the counters of its network tell it.

use std::os::fd::BorrowedFd;
use std::thread::available_parallelism;

use guest_protocol::{DeviceUsage, InterfaceUsage, Traffic, Usage};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread};
use rustix::system::sysinfo;
use rustix::time::{ClockId, clock_gettime};

use crate::os_error::{During, OsError};

/// Longer than any of the files is.
const MAX_FILE: usize = 16 * 1024;

/// The counters of all interfaces in the network namespace of this thread.
const INTERFACES: &str = "/proc/self/net/dev";

/// Reads them; of interfaces those with these names.
pub(crate) fn read<'a>(
    cgroup: BorrowedFd<'_>,
    interfaces: impl Iterator<Item = &'a str>,
) -> Result<Usage, OsError> {
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
        interfaces: interfaces_of(interfaces)?,
    })
}

/// What went over these interfaces; one that the container has renamed is left out.
fn interfaces_of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<InterfaceUsage>, OsError> {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return Ok(Vec::new());
    }
    let text = read_file(CWD, INTERFACES).during("read", INTERFACES)?;
    let known: Vec<_> = text.lines().filter_map(interface).collect();
    let of_name = |name: &str| known.iter().find(|interface| interface.name == name).cloned();
    Ok(names.filter_map(of_name).collect())
}

/// `eth0: ` and eight numbers for what was received and for what was sent: bytes, packets, errors, drops and others.
fn interface(line: &str) -> Option<InterfaceUsage> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers
        .split_whitespace()
        .map_while(|number| number.parse().ok())
        .collect();
    let traffic = |numbers: &[u64]| {
        let [bytes, packets, errors, dropped, ..] = *numbers else {
            return None;
        };
        Some(Traffic {
            bytes,
            packets,
            errors,
            dropped,
        })
    };
    Some(InterfaceUsage {
        name: name.trim().to_owned(),
        received: traffic(&numbers)?,
        sent: traffic(numbers.get(8..)?)?,
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
    fn a_line_of_an_interface_is_what_went_over_it() {
        let line = "  eth0:    1018      11    1    2    3     4          5         6      736       9    7    8    0     0       0          0";
        let expected = InterfaceUsage {
            name: "eth0".into(),
            received: Traffic {
                bytes: 1018,
                packets: 11,
                errors: 1,
                dropped: 2,
            },
            sent: Traffic {
                bytes: 736,
                packets: 9,
                errors: 7,
                dropped: 8,
            },
        };
        assert_eq!(interface(line), Some(expected));
        let headings =
            " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop";
        for nonsense in [headings, "", "eth0: 1 2 3 4 5 6 7 8 9 10 11", "eth0: x"] {
            assert_eq!(interface(nonsense), None, "{nonsense}");
        }
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
