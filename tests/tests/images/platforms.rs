//! An index with several platforms.

use anyhow::Result;
use serde_json::{Value, json};

use crate::host_daemon::HostDaemon;
use crate::local_registry::{INDEX, LocalRegistry, layer};

/// Puts an index of one image for each of these architectures into the registry.
fn put_index(registry: &LocalRegistry, tag: &str, architectures: &[&str]) -> Result<()> {
    let mut manifests = Vec::new();
    for (number, architecture) in architectures.iter().enumerate() {
        let layers = [layer(architecture, 1000 + number, 10 + number as u64)?];
        let (_, mut descriptor) = registry.put_image("team/app", architecture, architecture, &layers)?;
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        manifests.push(descriptor);
    }
    let index: Value = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    registry.put_manifest("team/app", tag, &index)?;
    Ok(())
}

#[test]
fn the_right_platform_of_an_index_is_chosen_and_one_with_none_says_which_there_are() -> Result<()> {
    let daemon = HostDaemon::start()?;
    let registry = LocalRegistry::start()?;
    put_index(&registry, "both", &["arm64", "s390x", "amd64"])?;
    put_index(&registry, "foreign", &["s390x", "ppc64le"])?;
    let name = |tag: &str| format!("{}/team/app:{tag}", registry.host);
    let architecture =
        |image: &str| daemon.hull(["image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", image]);
    daemon.hull(["pull", &name("both")])?.ok();
    let own = match std::env::consts::ARCH {
        "aarch64" => "linux/arm64\n",
        _ => "linux/amd64\n",
    };
    assert_eq!(architecture(&name("both"))?.ok(), own);
    for platform in ["linux/s390x", "linux/arm64"] {
        daemon.hull(["pull", "--platform", platform, &name("both")])?.ok();
        assert_eq!(architecture(&name("both"))?.ok(), format!("{platform}\n"));
    }
    let refused = daemon.hull(["pull", &name("foreign")])?.exits(1);
    let asked = daemon
        .hull(["pull", "--platform", "linux/riscv64", &name("both")])?
        .exits(1);
    for (outcome, there) in [
        (refused, ["linux/s390x", "linux/ppc64le"]),
        (asked, ["linux/arm64", "linux/amd64"]),
    ] {
        for platform in there {
            assert!(outcome.stderr.contains(platform), "{outcome}");
        }
    }
    assert!(!daemon.hull(["images"])?.ok().contains("foreign"));
    Ok(())
}
