//! What the daemon tells of a path in a container.

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// The header it is told in.
pub(super) const HEADER: &str = "x-docker-container-path-stat";

/// Type bits of Go's `FileMode`.
const DIRECTORY: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const PIPE: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const IRREGULAR: u32 = 1 << 19;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PathStat {
    mode: u32,
    /// Where a link leads to, absolute.
    #[serde(default)]
    pub(super) link_target: String,
}

impl PathStat {
    pub(super) fn decode(header: Option<&str>) -> anyhow::Result<Self> {
        let Some(header) = header else {
            bail!("the daemon does not say what is at the path")
        };
        let json = BASE64_STANDARD.decode(header);
        let json = json.context("what the daemon says of the path is not base64")?;
        serde_json::from_slice(&json).context("what the daemon says of the path is not understood")
    }

    pub(super) fn is_directory(&self) -> bool {
        self.mode & DIRECTORY != 0
    }

    pub(super) fn is_link(&self) -> bool {
        self.mode & LINK != 0
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & (DIRECTORY | LINK | DEVICE | PIPE | SOCKET | IRREGULAR) == 0
    }

    /// What it is that nothing can be copied to, in Docker's words.
    pub(super) fn kind_refused(&self) -> &'static str {
        if self.mode & DEVICE != 0 {
            "got a device"
        } else {
            "got an irregular file"
        }
    }
}
