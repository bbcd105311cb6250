//! Images for several platforms: which of them is pushed.

use anyhow::Result;
use system_tests::{Daemon, DockerRegistry};

use crate::content::noise;
use crate::layout::{Compression, ImageSpec, Layout, skopeo};

#[test]
fn a_build_for_a_platform_begins_with_an_image_for_it() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = |architecture, seed| ImageSpec {
        architecture,
        files: vec![(architecture, noise(seed, 1000), Compression::Gzip)],
    };
    let base = registry.image("base:1");
    Layout::index(&daemon.file("index"), &[image("amd64", 1), image("arm64", 2)])?
        .copy_to(&base, &["--all"])?;
    daemon.hull(["pull", &base]).ok();
    let folder = daemon.file("context");
    std::fs::create_dir(&folder)?;
    let file = |text: &str| std::fs::write(folder.join("Dockerfile"), text);
    let folder = folder.display().to_string();
    let text = format!(
        "FROM --platform=$BUILDPLATFORM {base} AS tools\nFROM {base}\nCOPY --from=tools /amd64 /arm64 /of-both/\n"
    );
    // The stage of tools has what is here, and not the file of the other.
    file(&text)?;
    daemon
        .hull(["build", "--platform", "linux/arm64", &folder])
        .exits(1)
        .says("\"/arm64\": not found");
    file(&text.replace("/arm64 ", ""))?;
    for (platform, own) in [("linux/arm64", "arm64"), ("linux/amd64", "amd64")] {
        daemon
            .hull(["build", "--platform", platform, "-t", "made", &folder])
            .ok();
        let format = ["image", "inspect", "-f", "{{.Architecture}}", "made"];
        assert_eq!(daemon.hull(format).ok().trim(), own);
    }
    // What nobody offers for it is not what is here.
    file(&format!("FROM {base}\n"))?;
    let refused = daemon
        .hull(["build", "--platform", "linux/s390x", &folder])
        .exits(1);
    assert!(
        refused
            .stdout
            .contains("does not provide the specified platform (linux/s390x): it is for linux/amd64"),
        "{refused}"
    );
    Ok(())
}

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
