//! An archive from the daemon, to standard output or to a file.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

use crate::api::{ApiError, Pending};

/// Writes what the daemon answers to a file, or to standard output, which must not be a terminal. `failure` says what
/// failed, such as `failed to export container`. The daemon is asked when it is clear where the answer goes.
pub(super) async fn deliver(
    ask: impl Future<Output = Result<Pending, ApiError>>,
    output: Option<&Path>,
    failure: &str,
) -> anyhow::Result<()> {
    match output {
        None if io::stdout().is_terminal() => {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        }
        None => copy(ask.await?, &mut io::stdout().lock()).await,
        Some(path) => write_file(ask, path, failure).await,
    }
}

/// A file appears under its name when all of it is there.
async fn write_file(
    ask: impl Future<Output = Result<Pending, ApiError>>,
    path: &Path,
    failure: &str,
) -> anyhow::Result<()> {
    let cannot = || format!("{failure}: cannot write {}", path.display());
    if let Ok(metadata) = fs::metadata(path)
        && !metadata.is_file()
    {
        // A pipe or a device has no other name to be written under.
        if metadata.is_dir() {
            bail!("{failure}: {} is a directory", path.display());
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .with_context(cannot)?;
        return copy(ask.await?, &mut file).await;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(folder).with_context(cannot)?;
    copy(ask.await?, &mut file).await?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

async fn copy(mut response: Pending, output: &mut impl Write) -> anyhow::Result<()> {
    while let Some(chunk) = response.chunk().await? {
        output.write_all(&chunk).context("cannot write the archive")?;
    }
    Ok(output.flush()?)
}
