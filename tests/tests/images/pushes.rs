//! Pushing, and that others read what was pushed.

use anyhow::Result;
use system_tests::{Daemon, DockerRegistry};

use crate::layout::skopeo;

#[test]
fn what_is_pushed_is_read_by_skopeo_and_pulled_back() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = registry.image("tools/busybox:1");
    daemon.hull(["tag", "busybox", &image]).ok();
    let said = daemon.hull(["push", &image]).ok();
    assert!(
        said.starts_with(&format!(
            "The push refers to repository [{}]\n",
            registry.image("tools/busybox")
        )),
        "{said}"
    );
    assert!(said.contains(": Pushed\n"), "{said}");
    let remote = format!("docker://{image}");
    let digest = skopeo(&[
        "inspect",
        "--tls-verify=false",
        "--format",
        "{{.Digest}}",
        &remote,
    ])?;
    assert!(
        said.contains(&format!("1: digest: {} size: ", digest.trim())),
        "{said}"
    );
    let copied = format!("oci:{}:x", daemon.file("copied").display());
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", &remote, &copied])?;
    let id = daemon.hull(["images", "-q", "--no-trunc", &image]).ok();
    daemon.hull(["rmi", "busybox", &image]).ok();
    assert_eq!(daemon.hull(["images", "-q"]).ok(), "");
    let pulled = daemon.hull(["pull", &image]).ok();
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert_eq!(daemon.hull(["images", "-q", "--no-trunc", &image]).ok(), id);
    daemon.check();
    Ok(())
}

#[test]
fn a_second_push_uploads_no_blob_and_another_repository_mounts_them() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let (first, second) = (registry.image("a/first:1"), registry.image("b/second:1"));
    let uploads = || registry.requests(&["PUT", "/blobs/uploads/"]);
    daemon.hull(["tag", "busybox", &first]).ok();
    daemon.hull(["push", &first]).ok();
    let sent = uploads()?;
    assert_eq!(sent, 2, "a layer and a configuration");
    let said = daemon.hull(["push", &first]).ok();
    assert!(said.contains(": Layer already exists\n"), "{said}");
    daemon.hull(["tag", &first, &second]).ok();
    let said = daemon.hull(["push", &second]).ok();
    assert!(said.contains(": Mounted from a/first\n"), "{said}");
    assert_eq!(uploads()?, sent, "nothing was sent again: {said}");
    Ok(())
}

#[test]
fn all_tags_are_pushed_and_an_unknown_one_is_refused() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    for tag in ["app:1", "app:2"] {
        daemon.hull(["tag", "busybox", &registry.image(tag)]).ok();
    }
    daemon.hull(["push", "-q", "-a", &registry.image("app")]).ok();
    let remote = format!("docker://{}", registry.image("app"));
    let tags = skopeo(&["list-tags", "--tls-verify=false", &remote])?;
    assert!(tags.contains("\"1\"") && tags.contains("\"2\""), "{tags}");
    daemon
        .hull(["push", &registry.image("app:3")])
        .exits(1)
        .says("An image does not exist locally with the tag:");
    Ok(())
}
