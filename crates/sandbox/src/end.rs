//! How a microVM ended.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use vm_spec::{ExitReason, ExitReport};

use crate::{VMM_LOG, cgroup};

/// The name of the exit report in the sandbox's folder.
pub(crate) const EXIT_REPORT: &str = "exit.json";

/// An exit report is a line or two; more than this is not one.
const MAX_REPORT: u64 = 64 * 1024;
/// How much of the end of a VMM's log goes into a message.
const LOG_TAIL: u64 = 2048;

/// How a microVM ended. Its text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxEnd {
    /// What the VMM reported; `None` if it was killed before it could.
    pub report: Option<ExitReport>,
    /// The end of the VMM's log, if it has one.
    pub log: String,
    /// Whether the host killed the VMM because it took more memory than its control group may.
    pub out_of_memory: bool,
}

impl SandboxEnd {
    /// Reads what the VMM left behind in the sandbox's folder and in its control group.
    pub(crate) fn read(folder: &Path, cgroup: Option<&Path>) -> SandboxEnd {
        SandboxEnd {
            report: read_report(&folder.join(EXIT_REPORT)),
            log: read_log_tail(folder),
            out_of_memory: cgroup.is_some_and(cgroup::is_out_of_memory),
        }
    }

    /// Whether it ended because it was asked to.
    pub fn is_stop(&self) -> bool {
        self.report
            .as_ref()
            .is_some_and(|report| report.reason == ExitReason::Stopped)
    }
}

impl fmt::Display for SandboxEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(report) = &self.report else {
            f.write_str(match self.out_of_memory {
                true => "its VMM process took more memory than its guest's and its own share, and the host killed it",
                false => "its VMM process was killed or crashed",
            })?;
            return write_log(f, &self.log);
        };
        f.write_str(match report.reason {
            ExitReason::Shutdown => "the guest powered itself off",
            ExitReason::Reset => "the guest reset itself, which is how its kernel ends in a panic",
            ExitReason::Stopped => "it was stopped",
            ExitReason::Signal => "its VMM process was asked to end by a signal",
            ExitReason::GuestFault => "the virtual CPU could not go on",
            ExitReason::VmmError => "its VMM failed",
        })?;
        if !report.detail.is_empty() {
            write!(f, ": {}", report.detail)?;
        }
        match report.reason {
            ExitReason::Stopped | ExitReason::VmmError => Ok(()),
            _ => write_log(f, &self.log),
        }
    }
}

fn write_log(f: &mut fmt::Formatter<'_>, log: &str) -> fmt::Result {
    if log.is_empty() {
        Ok(())
    } else {
        write!(f, "; the end of its log: {log}")
    }
}

fn read_report(path: &Path) -> Option<ExitReport> {
    let mut text = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(MAX_REPORT)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}

/// The end of the VMM's log, whole lines as far as that can be, or nothing.
pub(crate) fn read_log_tail(folder: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(folder.join(VMM_LOG))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut tail = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut tail)?;
        Ok(tail)
    };
    read()
        .map(|tail| String::from_utf8_lossy(&tail).trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vmm_that_left_an_empty_report_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(EXIT_REPORT), "").unwrap();
        std::fs::write(folder.path().join(VMM_LOG), "vcpu 0: stuck\n").unwrap();
        let end = SandboxEnd::read(folder.path(), None);
        assert_eq!(end.report, None);
        assert_eq!(
            end.to_string(),
            "its VMM process was killed or crashed; the end of its log: vcpu 0: stuck"
        );
    }

    #[test]
    fn a_report_is_told_with_its_detail() {
        let folder = tempfile::tempdir().unwrap();
        let report = ExitReport {
            reason: ExitReason::VmmError,
            detail: "the kernel is no ELF file".into(),
        };
        std::fs::write(
            folder.path().join(EXIT_REPORT),
            serde_json::to_vec(&report).unwrap(),
        )
        .unwrap();
        let end = SandboxEnd::read(folder.path(), None);
        assert!(!end.is_stop());
        assert_eq!(end.to_string(), "its VMM failed: the kernel is no ELF file");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(VMM_LOG), format!("{}end", "x".repeat(10_000))).unwrap();
        let tail = read_log_tail(folder.path());
        assert_eq!(tail.len(), LOG_TAIL as usize);
        assert!(tail.ends_with("end"));
    }
}
