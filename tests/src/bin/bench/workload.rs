//! What is done with a file system to measure it: the same program in a container, in QEMU's microVM and beside them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise};

use crate::figures::Series;
use crate::peers::run as run_command;

/// The first argument of a run: `workload OUTPUT PART=FOLDER...`.
pub(crate) const ARGUMENT: &str = "workload";

/// The small files, in folders of a thousand.
pub(crate) const FILES: usize = 10_000;
const FILES_IN_A_FOLDER: usize = 1_000;
/// What each has in it, in bytes.
const FILE_SIZE: usize = 1_000;
/// How much is written and read in a row, in bytes, and in which pieces.
const STREAM: usize = 1 << 30;
const PIECE: usize = 1 << 20;
/// How often the status of a tree is asked for.
const STATUS_ROUNDS: usize = 3;

/// Times by name, in milliseconds.
pub(crate) type Times = BTreeMap<String, f64>;

/// Carries parts out in folders, and writes the times they took to the output, as JSON.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (output, parts) = arguments.split_first().context("an output is missing")?;
    let mut times = Times::new();
    for part in parts {
        let (part, folder) = part.split_once('=').context("a part without a folder")?;
        let folder = Path::new(folder);
        match part {
            "files" => files(&folder.join("files"), &mut times)?,
            "git" => git(folder, &mut times)?,
            "stream" => stream(&folder.join("stream"), &mut times)?,
            other => bail!("there is no part {other}"),
        }
    }
    fs::write(output, serde_json::to_vec(&times)?).with_context(|| format!("write {output}"))
}

fn take(times: &mut Times, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut series = Series::new();
    series.time(work).with_context(|| format!("the part {name}"))?;
    note(times, name, &series);
    Ok(())
}

/// Keeps a time, and shows that there was progress: some parts take minutes where all is emulated.
fn note(times: &mut Times, name: &str, series: &Series) {
    eprintln!("{name}: {:.0} ms", series.median());
    times.insert(name.to_owned(), series.median());
}

/// The files beneath a folder.
fn paths(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (0..FILES).map(move |n| folder.join(format!("{}/{n}", n / FILES_IN_A_FOLDER)))
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (0..FILES / FILES_IN_A_FOLDER).map(move |n| folder.join(n.to_string()))
}

/// Makes the files, as a source tree has them, too.
pub(crate) fn make_files(folder: &Path) -> Result<()> {
    for folder in folders(folder) {
        fs::create_dir_all(folder)?;
    }
    let content = [b'x'; FILE_SIZE];
    paths(folder).try_for_each(|path| Ok(fs::write(path, content)?))
}

fn files(folder: &Path, times: &mut Times) -> Result<()> {
    take(times, "create", || make_files(folder))?;
    take(times, "stat", || {
        paths(folder).try_for_each(|path| Ok(fs::symlink_metadata(path).map(drop)?))
    })?;
    take(times, "read", || {
        paths(folder).try_for_each(|path| Ok(fs::read(path).map(drop)?))
    })?;
    take(times, "rm", || Ok(fs::remove_dir_all(folder)?))
}

/// The tools lie beside the tree's folder, with all they load.
fn git(tree: &Path, times: &mut Times) -> Result<()> {
    let tools = tree.parent().context("a tree at the root")?.join("tools");
    let status = || {
        let mut command = Command::new(tools.join("loader"));
        command.arg("--library-path").arg(&tools).arg(tools.join("git"));
        command
            .args(["-c", "core.fsmonitor=false", "-C"])
            .arg(tree)
            .args(["status", "--porcelain"]);
        command.env("GIT_CONFIG_COUNT", "1");
        command
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*");
        run_command(&mut command).map(drop)
    };
    // The index is made one of this file system, with its numbers of devices and files.
    status()?;
    let mut series = Series::new();
    for _ in 0..STATUS_ROUNDS {
        series.time(status)?;
    }
    note(times, "git", &series);
    Ok(())
}

fn stream(path: &Path, times: &mut Times) -> Result<()> {
    let mut piece = vec![0x5a; PIECE];
    take(times, "stream-write", || {
        let mut file = File::create(path)?;
        for _ in 0..STREAM / PIECE {
            file.write_all(&piece)?;
        }
        Ok(file.sync_all()?)
    })?;
    take(times, "stream-read", || {
        let mut file = File::open(path)?;
        // What this kernel has in its cache is not what is measured.
        fadvise(&file, 0, None, Advice::DontNeed)?;
        let mut left = STREAM;
        while left > 0 {
            file.read_exact(&mut piece)?;
            left -= PIECE;
        }
        Ok(())
    })?;
    Ok(fs::remove_file(path)?)
}
