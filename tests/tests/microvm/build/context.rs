//! Contexts of builds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use system_tests::Outcome;
use tempfile::TempDir;

use super::entries::{Entry, RESERVED};

/// Copies an entry's files. A checkout keeps no modes but one bit, and whoever made it may have any umask.
const COPY: &str = r#"
    umask 022
    cp -R "$1/." .
    chmod -R u=rwX,go=rX .
    if [ -e context.sh ]; then sh -eu context.sh; fi
"#;

/// A folder with an entry's context.
pub(super) fn prepare(entry: &Entry) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("sh");
    command
        .args(["-euc", COPY, "sh"])
        .arg(&entry.folder)
        .current_dir(folder.path());
    let outcome = Outcome::from(command.output()?);
    ensure!(outcome.code == 0, "the context of {}: {outcome}", entry.name);
    for name in RESERVED {
        let path = folder.path().join(name);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(folder)
}

/// An archive of a context, as docker's clients send it: hard links are links, and all belongs to root.
pub(super) fn pack(folder: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new("tar");
    command
        .args(["--create", "--format=pax", "--xattrs", "--numeric-owner"])
        .args(["--owner=0", "--group=0", "--file=-", "--directory"])
        .arg(folder)
        .arg(".")
        .stdin(Stdio::null());
    let output = command.output().context("tar cannot be executed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tar: {said}");
    Ok(output.stdout)
}
