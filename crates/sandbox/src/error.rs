//! Why a microVM could not be used.

use std::io;

/// Why a microVM could not be started or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The connection failed.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}
