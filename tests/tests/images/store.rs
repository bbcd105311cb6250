//! What a daemon's store holds beside images that show.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use system_tests::Daemon;

/// How long the store may take to remove what nobody needs.
const CLEANING: Duration = Duration::from_secs(10);

/// Waits until no file of any image is left. A pull that fails has said so before its last thread has ended, and what a
/// daemon finds when it starts is collected while it serves.
pub(crate) fn wait_until_empty(daemon: &Daemon) -> Result<()> {
    let end = Instant::now() + CLEANING;
    loop {
        let mut files = Vec::new();
        for folder in ["blobs/sha256", "layers", "tmp"] {
            files.extend(names(&daemon.root(), folder)?);
        }
        if files.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "files of no image are left: {files:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Files of transfers that are not complete.
pub(crate) fn unfinished_files(daemon: &Daemon) -> Result<Vec<String>> {
    names(&daemon.root(), "tmp")
}

fn names(root: &Path, folder: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root.join(folder)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names: std::io::Result<Vec<String>> = entries
        .map(|entry| Ok(format!("{folder}/{}", entry?.file_name().to_string_lossy())))
        .collect();
    Ok(names?)
}
