//! What is told of images.

use anyhow::Result;
use system_tests::{Daemon, DockerRegistry};

#[test]
fn what_happens_to_images_is_told_in_dockers_words() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::plain()?);
    let image = registry.image("app:1");
    let repository = registry.image("app");
    let id = daemon
        .hull(["images", "-q", "--no-trunc", "localhost/busybox"])
        .ok();
    let id = id.trim();
    let archive = daemon.file("saved.tar").display().to_string();
    daemon.hull(["tag", "busybox", &image]).ok();
    daemon.hull(["push", &image]).ok();
    daemon.hull(["save", "-o", &archive, &image]).ok();
    daemon.hull(["rmi", &image]).ok();
    daemon.docker(["pull", "-q", &image]).ok();
    daemon.hull(["load", "-i", &archive]).ok();
    daemon.hull(["rmi", "busybox"]).ok();
    daemon.hull(["image", "prune", "-af"]).ok();
    let imported = daemon.hull(["import", &archive, "flat:1"]).ok();
    let imported = imported.trim();
    let format = "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}";
    let args = ["events", "--since", "1", "--until", "0s", "--format", format];
    let expected = [
        format!("tag {id} {image}"),
        format!("push {image} {repository}"),
        format!("save {id} {id}"),
        format!("untag {id} {id}"),
        // The name by its digest, which the push gave it.
        format!("untag {id} {id}"),
        format!("pull {image} {repository}"),
        format!("load {id} {id}"),
        format!("untag {id} {id}"),
        format!("untag {id} {id}"),
        format!("untag {id} {id}"),
        format!("delete {id} {id}"),
        "prune  <no value>".to_owned(),
        format!("import {imported} {imported}"),
        format!("tag {imported} localhost/flat:1"),
    ];
    // "0s" is the beginning of this second: what just happened comes after it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let told = daemon.docker(args).ok();
        let told: Vec<_> = told.lines().collect();
        if told == expected {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{told:#?}\n{expected:#?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}
