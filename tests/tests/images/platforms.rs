//! Images for several platforms: which of them is pushed.

use anyhow::Result;
use system_tests::{Daemon, DockerRegistry};

use crate::content::noise;
use crate::layout::{Compression, ImageSpec, Layout, skopeo};

#[test]
fn a_push_for_a_platform_is_of_that_platform_or_refused() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = |architecture, seed| ImageSpec {
        architecture,
        files: vec![("file", noise(seed, 1000), Compression::Gzip)],
    };
    let several = registry.image("several:1");
    Layout::index(&daemon.file("index"), &[image("amd64", 1), image("arm64", 2)])?
        .copy_to(&several, &["--all"])?;
    daemon.hull(["pull", "--platform", "linux/arm64", &several]).ok();
    let (one, other) = (registry.image("one:1"), registry.image("other:1"));
    for name in [&one, &other] {
        daemon.hull(["tag", &several, name]).ok();
    }
    let pushes = [
        daemon.hull(["push", "--platform", "linux/arm64", &one]),
        daemon.docker(["push", "--platform", "linux/arm64", &one]),
    ];
    for said in pushes.map(|push| push.ok()) {
        assert!(said.contains("1: digest: sha256:"), "{said}");
    }
    let remote = format!("docker://{one}");
    let manifest = skopeo(&["inspect", "--tls-verify=false", "--raw", &remote])?;
    assert!(
        manifest.contains("\"layers\"") && !manifest.contains("\"manifests\""),
        "{manifest}"
    );
    let config = skopeo(&["inspect", "--tls-verify=false", "--config", &remote])?;
    assert!(config.contains("\"architecture\": \"arm64\""), "{config}");
    for push in [
        daemon.hull(["push", "--platform", "linux/amd64", &other]),
        daemon.docker(["push", "--platform", "linux/amd64", &other]),
    ] {
        push.exits(1).says(&format!(
            "image with reference {other} was found but does not provide the specified platform (linux/amd64): it is for linux/arm64"
        ));
    }
    daemon.hull(["pull", &other]).exits(1).says("manifest unknown");
    // The other commands of the docker CLI say the same.
    for arguments in [
        &["image", "inspect", "--platform", "linux/amd64", &other][..],
        &["history", "--platform", "linux/amd64", &other],
        &["image", "rm", "--platform", "linux/amd64", &other],
    ] {
        daemon
            .docker(arguments)
            .exits(1)
            .says("does not provide the specified platform (linux/amd64)");
    }
    daemon
        .docker(["image", "rm", "--platform", "linux/arm64", &other])
        .ok();
    Ok(())
}
