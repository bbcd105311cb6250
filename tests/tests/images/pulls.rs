//! Pulling what others made.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use system_tests::{Daemon, DockerRegistry};

use crate::content::noise;
use crate::layout::{Compression, ImageSpec, Layout};

fn spec<'a>(architecture: &'a str, seed: u64, size: usize, compression: Compression) -> ImageSpec<'a> {
    ImageSpec {
        architecture,
        files: vec![
            ("first", noise(seed, size), compression),
            ("second", noise(seed + 1, size), compression),
        ],
    }
}

/// The digest in the line `Digest: ...` of a pull.
fn digest(said: &str) -> &str {
    said.lines()
        .find_map(|line| line.strip_prefix("Digest: "))
        .unwrap_or_default()
}

#[test]
fn what_skopeo_copied_is_pulled_in_every_format_and_compression() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    for (name, compression, options) in [
        ("oci-gzip", Compression::Gzip, &["--format=oci"][..]),
        ("oci-plain", Compression::None, &["--format=oci"]),
        ("oci-zstd", Compression::Zstd, &["--format=oci"]),
        ("docker-gzip", Compression::Gzip, &["--format=v2s2"]),
    ] {
        let layout = Layout::image(&daemon.file(name), &spec("amd64", 1, 40_000, compression))?;
        let image = registry.image(name);
        layout.copy_to(&image, options)?;
        let said = daemon.hull(["pull", &image]).ok();
        assert!(
            said.contains(&format!("Status: Downloaded newer image for {image}:latest\n")),
            "{said}"
        );
        assert!(said.ends_with(&format!("{image}:latest\n")), "{said}");
        let id = daemon
            .hull([
                "image",
                "inspect",
                "-f",
                "{{.RootFS.Layers}} {{.RepoDigests}}",
                &image,
            ])
            .ok();
        assert!(id.contains(digest(&said)), "{id}");
        let blobs = || registry.requests(&["GET", "/blobs/"]);
        let before = blobs()?;
        let again = daemon.hull(["pull", &image]).ok();
        assert!(again.contains("Status: Image is up to date for"), "{again}");
        assert_eq!(blobs()?, before, "nothing is brought again");
    }
    // The same files in the same order are the same layers, however they came.
    let layers = daemon.hull(["images", "-q", "--no-trunc"]).ok();
    assert_eq!(layers.lines().count(), 5, "{layers}");
    let usage = daemon
        .hull(["system", "df", "--format", "{{.Type}} {{.Size}}"])
        .ok();
    assert!(usage.contains("Images 2.06MB"), "{usage}");
    daemon.check();
    Ok(())
}

#[test]
fn an_index_is_pulled_for_the_platform_that_is_wanted() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let images = [
        spec("arm64", 1, 1000, Compression::Gzip),
        spec("amd64", 3, 1000, Compression::Gzip),
    ];
    let image = registry.image("several");
    Layout::index(&daemon.file("index"), &images)?.copy_to(&image, &["--all"])?;
    let architecture = |image: &str| {
        daemon
            .hull(["image", "inspect", "-f", "{{.Architecture}}", image])
            .ok()
    };
    let said = daemon.hull(["pull", &image]).ok();
    assert_eq!(architecture(&image), "amd64\n");
    let raw = daemon.hull(["manifest", "inspect", &image]).ok();
    assert!(raw.contains("\"manifests\"") && raw.contains("arm64"), "{raw}");
    let verbose = daemon.hull(["manifest", "inspect", "-v", &image]).ok();
    assert_eq!(verbose.matches("\"OCIManifest\": {").count(), 2, "{verbose}");
    // The digest is the index's, and the image is found by it.
    assert_eq!(architecture(&format!("{image}@{}", digest(&said))), "amd64\n");
    daemon.hull(["pull", "--platform", "linux/arm64", &image]).ok();
    assert_eq!(architecture(&image), "arm64\n");
    daemon
        .hull(["pull", "--platform", "linux/s390x", &image])
        .exits(1)
        .says("no matching manifest for linux/s390x")
        .says("linux/arm64, linux/amd64");
    daemon
        .hull(["pull", "--platform", "nonsense/", &image])
        .exits(1)
        .says("is no platform");
    Ok(())
}

#[test]
fn an_image_that_is_not_there_is_said_in_dockers_words() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = registry.image("nosuch:1");
    daemon.hull(["pull", &image]).exits(1).says(&format!(
        "Error response from daemon: manifest for {image} not found: manifest unknown"
    ));
    daemon
        .hull(["create", &image])
        .exits(125)
        .says(&format!("Unable to find image '{image}' locally\n"))
        .says("manifest unknown");
    daemon
        .docker(["pull", &image])
        .exits(1)
        .says("not found: manifest unknown");
    Ok(())
}

#[test]
fn create_pulls_what_is_missing() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = registry.image("app");
    Layout::image(&daemon.file("app"), &spec("amd64", 1, 1000, Compression::Gzip))?.copy_to(&image, &[])?;
    daemon
        .hull(["create", "--pull", "never", &image])
        .exits(125)
        .says("No such image");
    let created = daemon.hull(["create", "--name", "app", &image]).exits(0);
    assert!(
        created
            .stderr
            .starts_with(&format!("Unable to find image '{image}:latest' locally\n")),
        "{created}"
    );
    assert!(created.stderr.contains("Pull complete"), "{created}");
    assert_eq!(created.stdout.len(), 65, "{created}");
    Ok(())
}

/// A pull in the background that has begun to bring layers.
fn begun(daemon: &Daemon, image: &str) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut pull = daemon
        .hull_command(["pull", image])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(pull.stdout.take().context("no stdout")?);
    let mut line = String::new();
    while !line.contains("Pulling fs layer") {
        line.clear();
        anyhow::ensure!(said.read_line(&mut line)? > 0, "the pull ended early");
    }
    Ok((pull, said))
}

#[test]
fn two_pulls_at_once_do_one_download_and_one_may_go_away() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = registry.image("large");
    Layout::image(
        &daemon.file("large"),
        &spec("amd64", 1, 48 << 20, Compression::None),
    )?
    .copy_to(&image, &[])?;
    let (mut first, _said) = begun(&daemon, &image)?;
    let (mut second, mut said) = begun(&daemon, &image)?;
    first.kill()?;
    first.wait()?;
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest)?;
    assert!(second.wait()?.success(), "{rest}");
    assert_eq!(rest.matches("Pull complete").count(), 2, "{rest}");
    assert!(rest.contains("Status: Downloaded newer image"), "{rest}");
    assert_eq!(
        registry.requests(&["GET", "/blobs/"])?,
        3,
        "two layers and a configuration"
    );
    daemon.check();
    Ok(())
}

#[test]
fn a_pull_that_nobody_waits_for_is_given_up_and_leaves_nothing() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = registry.image("large");
    Layout::image(
        &daemon.file("large"),
        &spec("amd64", 1, 64 << 20, Compression::None),
    )?
    .copy_to(&image, &[])?;
    let (mut pull, _said) = begun(&daemon, &image)?;
    pull.kill()?;
    pull.wait()?;
    daemon.check();
    assert!(!daemon.hull(["images"]).ok().contains(&registry.host));
    daemon.hull(["pull", &image]).ok();
    daemon.check();
    Ok(())
}

#[test]
fn all_tags_of_a_repository_are_pulled() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let layout = Layout::image(&daemon.file("app"), &spec("amd64", 1, 1000, Compression::Gzip))?;
    for tag in ["app:1", "app:2"] {
        layout.copy_to(&registry.image(tag), &[])?;
    }
    daemon.hull(["pull", "-a", &registry.image("app")]).ok();
    let listed = daemon
        .hull([
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            &registry.image("app"),
        ])
        .ok();
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [registry.image("app:1"), registry.image("app:2")]);
    Ok(())
}
