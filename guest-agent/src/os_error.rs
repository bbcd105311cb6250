//! Failures of the operating system, with what was tried on what.

use rustix::io::Errno;

/// A step that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {subject}: {source}")]
pub(crate) struct OsError {
    /// What was tried, such as `mount`.
    pub(crate) action: &'static str,
    /// On what.
    pub(crate) subject: String,
    /// Why it failed.
    pub(crate) source: Errno,
}

/// Says what a system call was for.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, subject: impl Into<String>) -> Result<T, OsError>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, action: &'static str, subject: impl Into<String>) -> Result<T, OsError> {
        self.map_err(|source| OsError {
            action,
            subject: subject.into(),
            source,
        })
    }
}
