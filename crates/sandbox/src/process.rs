//! The identity of a process on the host: its id and when it started.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that is held by a descriptor, so that its id cannot come to mean another one.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
}

impl Process {
    /// Holds the process with this id.
    pub(crate) fn open(pid: i32) -> io::Result<Process> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Process {
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
        })
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        // The only failure is that it has ended.
        let _ = pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
    }

    /// Returns when it has ended; takes the thread until then.
    pub(crate) fn wait(&self) {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
    }
}

/// When the process started, in clock ticks since boot (field 22 of proc_pid_stat(5)): with its id it names a process
/// for as long as the host is up.
pub(crate) fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses; it may hold spaces and parentheses itself.
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_name_with_parentheses() {
        let rest = (3..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(parse_start_time(&format!("7 (a) b) (c) {rest}")), Some(22));
        assert_eq!(parse_start_time("7 (cut"), None);
    }

    #[tokio::test]
    async fn a_killed_process_is_seen_to_end() {
        let mut child = tokio::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id().unwrap() as i32;
        assert!(start_time(pid).unwrap() > 0);
        let process = Process::open(pid).unwrap();
        process.kill();
        process.wait();
        assert!(!child.wait().await.unwrap().success());
    }
}
