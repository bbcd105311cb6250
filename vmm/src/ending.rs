//! How a microVM ends: whoever ends it first says why, and the main thread hears of it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;

use vm_spec::{ExitReason, ExitReport};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The one ending of a microVM.
pub struct Ending {
    report: OnceLock<ExitReport>,
    event: EventFd,
}

impl Ending {
    /// An ending that has not come yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            report: OnceLock::new(),
            event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        })
    }

    /// Ends the microVM. What was said first stands.
    pub fn end(&self, reason: ExitReason, detail: impl Into<String>) {
        let _ = self.report.set(ExitReport {
            reason,
            detail: detail.into(),
        });
        // Fails only when the counter is full, that is, after the event.
        let _ = self.event.write(1);
    }

    /// How it ended, if it has.
    pub fn report(&self) -> Option<&ExitReport> {
        self.report.get()
    }
}

impl AsRawFd for Ending {
    /// Readable once the microVM has ended.
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

/// Replaces the content of `file` by `report` as JSON.
pub fn write_report(file: &mut File, report: &ExitReport) -> io::Result<()> {
    let json = serde_json::to_vec(report)?;
    // A pipe has no position and no length; it gets the report as well.
    if file.rewind().is_ok() {
        file.set_len(0)?;
    }
    file.write_all(&json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ending_stands() {
        let ending = Ending::new().unwrap();
        ending.end(ExitReason::Reset, "first");
        ending.end(ExitReason::Signal, "second");
        let report = ending.report().unwrap();
        assert_eq!(
            (report.reason, report.detail.as_str()),
            (ExitReason::Reset, "first")
        );
    }

    #[test]
    fn a_report_replaces_what_the_file_held() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 4096]).unwrap();
        let report = ExitReport {
            reason: ExitReason::Stopped,
            detail: String::new(),
        };
        write_report(&mut file, &report).unwrap();
        file.rewind().unwrap();
        let read: ExitReport = serde_json::from_reader(&file).unwrap();
        assert_eq!(read, report);
    }
}
