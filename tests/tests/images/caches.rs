//! Build caches between machines, through folders, registries and images. COPY needs no microVM.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use system_tests::{Daemon, DaemonSpec, DockerRegistry};
use tempfile::TempDir;

/// Two stages, with a layer each that the image has not.
const DOCKERFILE: &str = "FROM busybox AS files\nCOPY a /one/\nCOPY b /two/\nFROM scratch\nCOPY --from=files /one /uno\nCOPY b /\n";
const CACHED: &str = " ---> Using cache\n";

/// A folder to build; `b` has this content.
fn project(b: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, content) in [("Dockerfile", DOCKERFILE), ("a", "a file"), ("b", b)] {
        fs::write(folder.path().join(name), content)?;
    }
    Ok(folder)
}

/// What is told of a build with these options.
fn build(daemon: &Daemon, folder: &TempDir, options: &[&str]) -> String {
    let folder = folder.path().display().to_string();
    let arguments = [&["build", "--progress=plain"], options, &[folder.as_str()]].concat();
    daemon.hull(arguments).ok()
}

fn hits(told: &str) -> usize {
    told.matches(CACHED).count()
}

fn id(daemon: &Daemon, folder: &TempDir) -> String {
    daemon
        .hull(["build", "-q", &folder.path().display().to_string()])
        .ok()
}

fn blobs(cache: &Path) -> Result<usize> {
    Ok(fs::read_dir(cache.join("blobs/sha256"))?.count())
}

#[test]
fn a_folder_takes_a_cache_to_another_machine() -> Result<()> {
    let (here, there) = (Daemon::start()?, Daemon::start()?);
    let project = project("1")?;
    let folder = tempfile::tempdir()?;
    let cache = folder.path().join("cache");
    let (from, to) = (
        format!("type=local,src={}", cache.display()),
        format!("type=local,dest={},mode=max", cache.display()),
    );
    // The first build finds none, and makes one.
    let missing = here.hull([
        "build",
        "--cache-from",
        &from,
        "--cache-to",
        &to,
        &project.path().display().to_string(),
    ]);
    missing.exits(0).says("is not used: cannot read");
    let told = build(&there, &project, &["--cache-from", &from]);
    assert_eq!(hits(&told), 4, "{told}");
    assert_eq!(id(&here, &project), id(&there, &project));
    // What is not needed any more is not kept: manifest, configuration, and a layer for each file.
    let size = blobs(&cache)?;
    let other = self::project("2")?;
    let told = build(&there, &other, &["--cache-from", &from, "--cache-to", &to]);
    assert_eq!((hits(&told), blobs(&cache)?), (2, size), "{told}");
    here.check();
    there.check();
    Ok(())
}

#[test]
fn a_registry_takes_a_cache_to_another_machine_and_gives_what_is_needed() -> Result<()> {
    let (here, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let project = project("1")?;
    let (min, max) = (registry.image("app/cache:min"), registry.image("app/cache:max"));
    let told = build(
        &here,
        &project,
        &[
            "--cache-to",
            &format!("type=registry,ref={min}"),
            "--cache-to",
            &format!("type=registry,ref={max},mode=max"),
        ],
    );
    assert!(told.contains(": 2 steps, 2 layers\n"), "{told}");
    assert!(told.contains(": 4 steps, 4 layers\n"), "{told}");
    let fetched = || registry.requests(&["GET", "/blobs/"]);
    let there = Daemon::start()?;
    let other = self::project("2")?;
    let before = fetched()?;
    let told = build(&there, &other, &["--cache-from", &max]);
    assert_eq!(hits(&told), 2, "{told}");
    assert_eq!(fetched()? - before, 3, "the configuration and two layers: {told}");
    let last = Daemon::start()?;
    let told = build(
        &last,
        &project,
        &[
            "--cache-from",
            "type=registry,ref=nowhere.invalid/x",
            "--cache-from",
            &min,
        ],
    );
    assert!(
        told.contains("the build cache nowhere.invalid/x is not used"),
        "{told}"
    );
    assert_eq!(hits(&told), 2, "the steps of the image: {told}");
    assert_eq!(id(&here, &project), id(&last, &project));
    last.check();
    Ok(())
}

#[test]
fn an_image_carries_its_cache_where_that_is_asked_for() -> Result<()> {
    let (here, there, registry) = (Daemon::start()?, Daemon::start()?, DockerRegistry::plain()?);
    let project = project("1")?;
    let (with, without) = (registry.image("app:with"), registry.image("app:without"));
    build(
        &here,
        &project,
        &["--push", "-t", &with, "--cache-to", "type=inline"],
    );
    build(&here, &project, &["--push", "-t", &without]);
    let told = build(&there, &project, &["--cache-from", &without]);
    assert!(told.contains("it carries no build cache"), "{told}");
    assert_eq!(hits(&told), 0, "{told}");
    let last = Daemon::start()?;
    let told = build(&last, &project, &["--cache-from", &with]);
    assert_eq!(hits(&told), 2, "{told}");
    // As an image that is here, too, whose registry does not answer.
    build(
        &here,
        &project,
        &["-t", "localhost:1/app", "--cache-to", "type=inline"],
    );
    here.hull(["builder", "prune", "-f", "-a"]).ok();
    let told = build(&here, &project, &["--cache-from", "localhost:1/app"]);
    assert_eq!(hits(&told), 2, "{told}");
    Ok(())
}

#[test]
fn a_cache_that_cannot_be_pushed_is_told() -> Result<()> {
    let daemon = Daemon::start()?;
    let project = project("1")?;
    let build = |to: &str| {
        let folder = project.path().display().to_string();
        daemon.hull(["build", "-t", "app", "--cache-to", to, &folder])
    };
    let to = "type=registry,ref=localhost:1/cache";
    build(to)
        .exits(1)
        .says("cannot push the build cache to localhost:1/cache");
    daemon.hull(["image", "inspect", "app"]).ok();
    build(&format!("{to},ignore-error=true")).exits(0);
    Ok(())
}

#[test]
fn the_cache_is_bounded() -> Result<()> {
    let daemon = Daemon::start_with(DaemonSpec {
        arguments: ["--build-cache-limit", "1MiB"].map(Into::into).to_vec(),
        ..DaemonSpec::default()
    })?;
    let size = || -> Result<f64> {
        let told = daemon.hull(["builder", "du", "--format", "{{.Size}}"]).ok();
        let kilobytes = told.lines().filter_map(|line| line.strip_suffix("kB"));
        Ok(kilobytes.map(str::parse::<f64>).sum::<Result<f64, _>>()?)
    };
    let large = |content: &str| -> Result<TempDir> {
        let folder = project(&content.repeat(300_000))?;
        fs::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY b /\n")?;
        Ok(folder)
    };
    let folders = ["1", "2", "3", "4"].map(large);
    for folder in &folders {
        build(&daemon, folder.as_ref().expect("a folder"), &[]);
    }
    // It is looked after when the build has been answered.
    let deadline = Instant::now() + Duration::from_secs(30);
    while size()? > 1049.0 {
        ensure!(Instant::now() < deadline, "the cache has {} kB", size()?);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(size()?, 900.0, "the newest three");
    Ok(())
}
