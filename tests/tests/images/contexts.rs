//! Build contexts of which only what has changed is sent. COPY needs no microVM.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use system_tests::Daemon;
use tempfile::TempDir;

/// The size of a large file, in bytes: several times what all else takes.
const LARGE: usize = 1 << 20;

fn project() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let dockerfile = "FROM scratch\nCOPY . /\n";
    for (name, content) in [
        ("Dockerfile", dockerfile.to_owned()),
        ("small", "small".to_owned()),
        ("one", "1".repeat(LARGE)),
        ("two", "2".repeat(LARGE)),
    ] {
        fs::write(folder.path().join(name), content)?;
    }
    fs::hard_link(folder.path().join("one"), folder.path().join("hard"))?;
    Ok(folder)
}

/// Builds it anew; how many large files were sent, and the files of the image.
fn build(daemon: &Daemon, folder: &Path) -> Result<(usize, TempDir)> {
    let target = tempfile::tempdir()?;
    let output = format!("type=local,dest={}", target.path().display());
    let folder = folder.display().to_string();
    let told = daemon
        .hull(["build", "--progress=plain", "--no-cache", "-o", &output, &folder])
        .ok();
    let sent = told
        .lines()
        .find_map(|line| line.strip_prefix("Sending build context to the daemon  "));
    let sent = sent.with_context(|| format!("nothing is said of the context: {told}"))?;
    let bytes = match sent.strip_suffix("MB").or(sent.strip_suffix("kB")) {
        Some(count) if sent.ends_with("MB") => count.parse::<f64>()? * 1e6,
        Some(count) => count.parse::<f64>()? * 1e3,
        None => 0.0,
    };
    Ok((bytes as usize / LARGE, target))
}

#[test]
fn only_files_that_have_changed_are_sent_again() -> Result<()> {
    let daemon = Daemon::start()?;
    let project = project()?;
    let file = |folder: &TempDir, name: &str| fs::read_to_string(folder.path().join(name));
    assert_eq!(build(&daemon, project.path())?.0, 2);
    let (sent, built) = build(&daemon, project.path())?;
    assert_eq!(sent, 0);
    for name in ["small", "one", "hard", "two"] {
        assert_eq!(file(&built, name)?, file(&project, name)?, "{name}");
    }
    fs::write(project.path().join("two"), "3".repeat(LARGE))?;
    let (sent, built) = build(&daemon, project.path())?;
    assert_eq!((sent, file(&built, "two")?), (1, "3".repeat(LARGE)));
    // What was sent for one project is there for another, whatever it is called there.
    let other = self::project()?;
    fs::rename(other.path().join("two"), other.path().join("renamed"))?;
    let (sent, built) = build(&daemon, other.path())?;
    assert_eq!((sent, file(&built, "renamed")?), (0, "2".repeat(LARGE)));

    let told = daemon.hull(["builder", "du"]).ok();
    assert!(told.contains("contents"), "{told}");
    daemon.hull(["builder", "prune", "-af"]).ok();
    assert_eq!(build(&daemon, project.path())?.0, 2);
    daemon.check();
    Ok(())
}

#[test]
fn a_context_that_is_damaged_here_is_sent_again() -> Result<()> {
    let daemon = Daemon::start()?;
    let project = project()?;
    build(&daemon, project.path())?;
    let kept = daemon.root().join("build/contents");
    for entry in fs::read_dir(kept)? {
        let path = entry?.path();
        if path.metadata()?.len() == LARGE as u64 {
            fs::write(path, "x".repeat(LARGE))?;
        }
    }
    let path = project.path().display().to_string();
    let damaged = daemon.hull(["build", "--no-cache", &path]);
    damaged
        .exits(1)
        .says("is damaged and was thrown away; build again");
    // Each is found out when it is read.
    daemon.hull(["build", "--no-cache", &path]);
    let (_, built) = build(&daemon, project.path())?;
    assert_eq!(fs::read_to_string(built.path().join("one"))?, "1".repeat(LARGE));
    daemon.check();
    Ok(())
}
