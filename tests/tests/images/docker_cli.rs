//! The real docker CLI: what it shows of hull's images.

use anyhow::Result;
use system_tests::{Daemon, DockerRegistry};

use crate::content::noise;
use crate::layout::{Compression, ImageSpec, Layout};

#[test]
fn docker_does_with_images_what_it_does() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let (first, second) = (registry.image("first:1"), registry.image("second:2"));
    let spec = ImageSpec {
        architecture: "amd64",
        files: vec![
            ("a", noise(1, 100_000), Compression::Gzip),
            ("b", noise(2, 100_000), Compression::Gzip),
        ],
    };
    Layout::image(&daemon.file("layout"), &spec)?.copy_to(&first, &[])?;
    let said = daemon.docker(["pull", &first]).ok();
    assert_eq!(said.matches(": Pull complete\n").count(), 2, "{said}");
    assert!(
        said.contains("\nDigest: sha256:") && said.ends_with(&format!("{first}\n")),
        "{said}"
    );
    daemon.docker(["tag", &first, &second]).ok();
    let said = daemon.docker(["push", &second]).ok();
    assert_eq!(said.matches(": Mounted from first\n").count(), 2, "{said}");
    assert!(said.contains("2: digest: sha256:"), "{said}");
    let images = daemon
        .docker(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    assert!(images.contains(&first) && images.contains(&second), "{images}");
    let history = daemon
        .docker(["history", "--format", "{{.CreatedBy}} {{.Size}}", &first])
        .ok();
    assert_eq!(history, "COPY b / 100kB\nCOPY a / 100kB\n");
    let archive = daemon.file("saved.tar").display().to_string();
    daemon.docker(["save", "-o", &archive, &first, &second]).ok();
    let removed = daemon.docker(["rmi", &first, &second]).ok();
    assert!(
        removed.contains(&format!("Untagged: {first}\n")) && removed.contains("Deleted: sha256:"),
        "{removed}"
    );
    let loaded = daemon.docker(["load", "-i", &archive]).ok();
    for name in [&first, &second] {
        assert!(loaded.contains(&format!("Loaded image: {name}\n")), "{loaded}");
    }
    let usage = daemon
        .docker(["system", "df", "--format", "{{.Type}} {{.TotalCount}}"])
        .ok();
    assert!(usage.contains("Images 2\n"), "{usage}");
    let found = daemon
        .docker([
            "image",
            "inspect",
            "-f",
            "{{.Os}} {{.RootFS.Type}} {{len .RootFS.Layers}}",
            &second,
        ])
        .ok();
    assert_eq!(found, "linux layers 2\n");
    daemon.check();
    Ok(())
}

#[test]
fn an_image_that_a_container_needs_goes_only_by_force() -> Result<()> {
    let daemon = Daemon::start()?;
    let container = daemon.docker(["create", "busybox"]).ok();
    let name = "localhost/busybox:latest";
    for outcome in [daemon.docker(["rmi", name]), daemon.hull(["rmi", name])] {
        let refused = format!(
            "(must force) - container {} is using its referenced image",
            &container[..12]
        );
        outcome.exits(1).says(&refused);
    }
    assert_eq!(
        daemon.docker(["image", "prune", "-af"]).ok(),
        "Total reclaimed space: 0B\n"
    );
    let id = daemon.hull(["images", "-q", "localhost/busybox"]).ok();
    daemon.hull(["rmi", "-f", name]).ok();
    let shown = daemon.docker(["ps", "-a", "--format", "{{.Image}}"]).ok();
    assert_eq!(shown, id, "its name is gone, its identifier is not");
    let pruned = daemon.hull(["system", "prune", "-af"]).ok();
    assert!(
        pruned.starts_with(&format!("Deleted Containers:\n{container}")),
        "{pruned}"
    );
    daemon.check();
    Ok(())
}
