//! Images as archives, from and to skopeo.

use std::fs;

use anyhow::Result;
use system_tests::{Daemon, DockerRegistry};

use crate::content::noise;
use crate::layout::{Compression, ImageSpec, Layout, skopeo};

#[test]
fn a_saved_image_is_read_by_skopeo_in_both_formats() -> Result<()> {
    let daemon = Daemon::start()?;
    let archive = daemon.file("saved.tar").display().to_string();
    daemon.hull(["tag", "busybox", "h:1/app:1"]).ok();
    daemon.hull(["save", "-o", &archive, "h:1/app:1"]).ok();
    for source in [
        format!("docker-archive:{archive}:h:1/app:1"),
        format!("oci-archive:{archive}"),
    ] {
        let config = skopeo(&["inspect", "--config", &source])?;
        assert!(
            config.contains("\"architecture\": \"amd64\""),
            "{source}: {config}"
        );
    }
    let id = daemon
        .hull(["images", "-q", "--no-trunc", "localhost/busybox"])
        .ok();
    daemon.hull(["rmi", "busybox", "h:1/app:1"]).ok();
    assert_eq!(
        daemon.hull(["load", "-i", &archive]).ok(),
        "Loaded image: h:1/app:1\n"
    );
    assert_eq!(daemon.hull(["images", "-q", "--no-trunc"]).ok(), id);
    daemon.check();
    Ok(())
}

#[test]
fn skopeos_archives_are_loaded_in_both_formats() -> Result<()> {
    let daemon = Daemon::start()?;
    let spec = ImageSpec {
        architecture: "amd64",
        files: vec![
            ("a", noise(1, 100_000), Compression::Gzip),
            ("b", noise(2, 100_000), Compression::Gzip),
        ],
    };
    Layout::image(&daemon.file("layout"), &spec)?;
    let source = format!("oci:{}", daemon.file("layout").display());
    let path = |name: &str| daemon.file(name).display().to_string();
    let docker = format!("docker-archive:{}:h:1/docker:1", path("docker.tar"));
    let oci = format!("oci-archive:{}:h:1/oci:1", path("oci.tar"));
    for target in [&docker, &oci] {
        skopeo(&["copy", "--quiet", &source, target])?;
    }
    let loaded = daemon.hull(["load", "-i", &path("docker.tar")]).ok();
    assert_eq!(loaded, "Loaded image: h:1/docker:1\n");
    let loaded = daemon.hull(["load", "-i", &path("oci.tar")]).ok();
    assert_eq!(loaded, "Loaded image: h:1/oci:1\n");
    let history = daemon
        .hull(["history", "--format", "{{.CreatedBy}}", "h:1/oci:1"])
        .ok();
    assert_eq!(history, "COPY b /\nCOPY a /\n");
    daemon.check();
    Ok(())
}

#[test]
fn what_is_no_archive_is_refused_and_leaves_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let file = daemon.file("nonsense");
    fs::write(&file, noise(1, 5 << 20))?;
    let path = file.display().to_string();
    assert_ne!(daemon.hull(["load", "-i", &path]).exits(1).stderr, "");
    assert_ne!(daemon.docker(["load", "-i", &path]).exits(1).stderr, "");
    daemon.check();
    assert_eq!(daemon.hull(["images", "-q"]).ok().lines().count(), 1);
    Ok(())
}

#[test]
fn an_imported_archive_is_an_image_that_can_be_pushed() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let folder = daemon.file("rootfs");
    fs::create_dir(&folder)?;
    fs::write(folder.join("hello"), "hi\n")?;
    let archive = daemon.file("rootfs.tar");
    let tar = std::process::Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(&folder)
        .arg(".")
        .status()?;
    assert!(tar.success());
    let (path, image) = (archive.display().to_string(), registry.image("imported:1"));
    let id = daemon
        .hull([
            "import",
            "-c",
            "CMD [\"/hello\"]",
            "-c",
            "ENV A=b",
            "-m",
            "by hand",
            &path,
            &image,
        ])
        .ok();
    assert_eq!(daemon.hull(["images", "-q", "--no-trunc", &image]).ok(), id);
    let config = daemon
        .hull([
            "image",
            "inspect",
            "-f",
            "{{.Config.Cmd}} {{.Config.Env}} {{.Comment}}",
            &image,
        ])
        .ok();
    assert_eq!(config, "[/hello] [A=b] by hand\n");
    daemon.hull(["push", &image]).ok();
    daemon.hull(["rmi", &image]).ok();
    daemon.hull(["pull", &image]).ok();
    assert_eq!(daemon.hull(["images", "-q", "--no-trunc", &image]).ok(), id);
    Ok(())
}
