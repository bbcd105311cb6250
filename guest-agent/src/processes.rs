//! The processes of the container, from `/proc`.
//!
//! This is a task rather than a call: to read the arguments of a process the kernel reads its memory, which may lie on a
//! file system that never answers.

use std::fs::{self, File};
use std::io::{self, Read, Write};

use guest_protocol::{FrameError, MAX_PROCESS_ARGUMENTS, ProcessClock, ProcessInfo, encode};
use rustix::param::page_size;
use rustix::system::sysinfo;
use rustix::time::{ClockId, clock_gettime};

/// Longer than any line of `/proc` but the arguments.
const MAX_FILE: u64 = 16 * 1024;
/// Where processes of the container are, `/proc/PID/cgroup`; those of cgroups beneath it, too.
const CGROUP: &str = "0::/container";

/// Why the processes cannot be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("cannot read /proc: {0}")]
    Read(#[source] io::Error),
    #[error("cannot write the answer: {0}")]
    Frame(#[from] FrameError),
    #[error("cannot write the answer: {0}")]
    Write(#[source] io::Error),
}

/// Writes a frame about each.
pub(crate) fn list(mut output: impl Write) -> Result<(), ListError> {
    let memory = sysinfo();
    let uptime = clock_gettime(ClockId::Boottime);
    let clock = ProcessClock {
        uptime_ms: uptime.tv_sec as u64 * 1000 + uptime.tv_nsec as u64 / 1_000_000,
        memory_bytes: memory.totalram.saturating_mul(u64::from(memory.mem_unit)),
    };
    output.write_all(&encode(&clock)?).map_err(ListError::Write)?;
    let mut pids = fs::read_dir("/proc")
        .map_err(ListError::Read)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect::<Vec<i32>>();
    pids.sort_unstable();
    for pid in pids {
        // One that ends meanwhile is not there.
        if let Some(process) = look(pid) {
            output.write_all(&encode(&process)?).map_err(ListError::Write)?;
        }
    }
    Ok(())
}

fn look(pid: i32) -> Option<ProcessInfo> {
    let file = |name: &str| read(&format!("/proc/{pid}/{name}"), MAX_FILE);
    if !is_in_container(&file("cgroup")?) {
        return None;
    }
    let mut process = parse_stat(&file("stat")?)?;
    describe_status(&file("status")?, &mut process);
    let arguments = read(&format!("/proc/{pid}/cmdline"), MAX_PROCESS_ARGUMENTS as u64)?;
    process.arguments = arguments
        .trim_end_matches('\0')
        .split('\0')
        .filter(|_| !arguments.is_empty())
        .map(str::to_owned)
        .collect();
    Some(process)
}

fn read(path: &str, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_in_container(cgroup: &str) -> bool {
    cgroup.lines().any(|line| {
        line.strip_prefix(CGROUP)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// `/proc/PID/stat`. The name stands in parentheses and may hold anything, even a parenthesis.
fn parse_stat(stat: &str) -> Option<ProcessInfo> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (pid, command) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields are counted from 1 in proc(5), and the third is the first here.
    let field = |number: usize| fields.get(number - 3).copied();
    let signed = |number| field(number)?.parse::<i64>().ok();
    let count = |number| field(number)?.parse::<u64>().ok();
    let small = |number| field(number)?.parse::<i32>().ok();
    Some(ProcessInfo {
        pid: pid.trim().parse().ok()?,
        command: command.to_owned(),
        state: field(3)?.chars().next()?,
        parent: small(4)?,
        group: small(5)?,
        session: small(6)?,
        terminal: small(7)?,
        terminal_group: small(8)?,
        flags: count(9)?,
        faults: (count(10)?, count(12)?),
        user_time: count(14)?,
        system_time: count(15)?,
        priority: signed(18)?,
        nice: signed(19)?,
        threads: count(20)?,
        started: count(22)?,
        virtual_bytes: count(23)?,
        resident_bytes: count(24)?.saturating_mul(page_size() as u64),
        cpu: small(39)?,
        ..ProcessInfo::default()
    })
}

/// What only `/proc/PID/status` tells.
fn describe_status(status: &str, process: &mut ProcessInfo) {
    let ids = |values: &str| {
        let mut ids = values.split_whitespace().map(|id| id.parse().unwrap_or_default());
        (ids.next().unwrap_or_default(), ids.next().unwrap_or_default())
    };
    for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
        match name {
            "Uid" => (process.user, process.effective_user) = ids(value),
            "Gid" => (process.group_id, process.effective_group) = ids(value),
            "VmLck" => {
                let kibibytes = value.trim().trim_end_matches(" kB").parse::<u64>();
                process.locked_bytes = kibibytes.unwrap_or_default().saturating_mul(1024);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_own_cgroups_count() {
        assert!(is_in_container("0::/container\n"));
        assert!(is_in_container("0::/container/below\n"));
        assert!(!is_in_container("0::/\n"));
        assert!(!is_in_container("0::/container2\n"));
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_is_a_name() {
        let stat = "42 (a) (b c) S 1 42 41 34816 40 4194560 10 0 2 0 150 25 0 0 20 0 3 0 900 8192 5 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.pid, process.command.as_str()), (42, "a) (b c"));
        assert_eq!(
            (process.parent, process.session, process.terminal),
            (1, 41, 34816)
        );
        assert_eq!((process.user_time, process.system_time), (150, 25));
        assert_eq!((process.threads, process.started, process.cpu), (3, 900, 1));
        assert_eq!(process.resident_bytes, 5 * page_size() as u64);
        assert!(parse_stat("42 (x").is_none() && parse_stat("42 (x) S 1").is_none());
    }

    #[test]
    fn users_and_locked_memory_come_from_the_status() {
        let mut process = ProcessInfo::default();
        describe_status(
            "Name:\tx\nUid:\t5\t6\t7\t8\nGid:\t1\t2\t3\t4\nVmLck:\t     8 kB\n",
            &mut process,
        );
        assert_eq!((process.user, process.effective_user), (5, 6));
        assert_eq!((process.group_id, process.effective_group), (1, 2));
        assert_eq!(process.locked_bytes, 8192);
    }

    #[test]
    fn this_process_can_be_read() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(parse_stat(&stat).unwrap().pid as u32, std::process::id());
    }
}
