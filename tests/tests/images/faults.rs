//! What goes wrong in the middle of a pull: a registry that dies, content that is not what its digest says, a full disk,
//! two clients at once.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use system_tests::{Daemon, DaemonSpec, DockerRegistry, Outcome};

use crate::content::{TAR, digest, layer};
use crate::relay::Relay;
use crate::{store, upload};

const MIB: usize = 1 << 20;

/// What may be asked for and sent beside the bytes of layers.
const OVERHEAD: u64 = 64 << 10;

/// A command that runs beside the test.
fn beside(daemon: &Daemon, args: &[&str]) -> Result<Child> {
    let mut command = daemon.hull_command(args);
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn outcome(child: Child) -> Result<Outcome> {
    Ok(child.wait_with_output()?.into())
}

/// The pulled image is whole, and is the only one.
fn check_only_image(daemon: &Daemon, name: &str) -> Result<()> {
    let images = daemon
        .hull(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    assert_eq!(images, format!("{name}\n"));
    daemon.hull(["system", "check"]).ok();
    assert_eq!(store::unfinished_files(daemon)?, [""; 0]);
    Ok(())
}

/// Nothing of an image shows, and nothing of it lies on the disk.
fn check_nothing(daemon: &Daemon) -> Result<()> {
    assert_eq!(daemon.hull(["images", "-aq"]).ok(), "");
    store::wait_until_empty(daemon)?;
    daemon.hull(["system", "check"]).ok();
    Ok(())
}

#[test]
fn a_registry_killed_in_the_middle_of_a_blob_and_started_again_goes_on_where_it_stopped() -> Result<()> {
    let daemon = Daemon::empty()?;
    let mut registry = DockerRegistry::plain()?;
    let content = layer("big", 24 * MIB, 1)?;
    upload::image(&registry, "team/app", "1", std::slice::from_ref(&content))?;
    let relay = Relay::to(&registry.host)?;
    relay.stop_after(10 * MIB as u64);
    let name = format!("{}/team/app:1", relay.host);
    let pull = beside(&daemon, &["pull", &name])?;
    relay.wait_until_stopped()?;
    registry.kill()?;
    relay.open();
    registry.restart()?;
    outcome(pull)?.ok();
    let (served, size) = (relay.served(), content.len() as u64);
    assert!(
        (size..size + OVERHEAD).contains(&served),
        "{served} bytes came for {size}"
    );
    let resumed = relay
        .requests()
        .iter()
        .any(|head| head.to_ascii_lowercase().contains("\r\nrange: bytes="));
    assert!(resumed, "no range was asked for: {:?}", relay.requests());
    check_only_image(&daemon, &name)
}

#[test]
fn a_blob_with_one_bit_turned_is_named_and_nothing_of_its_image_is_kept() -> Result<()> {
    let daemon = Daemon::empty()?;
    let registry = DockerRegistry::plain()?;
    let layers = [layer("good", MIB, 2)?, layer("bad", MIB, 3)?];
    let manifest = upload::image(&registry, "team/app", "1", &layers)?;
    let damaged = manifest["layers"][1]["digest"].as_str().context("no digest")?;
    let name = format!("{}/team/app:1", registry.host);
    let turn_bit = || -> Result<()> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(registry.blob_file(damaged))?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, 700_000)?;
        Ok(file.write_all_at(&[byte[0] ^ 0x10], 700_000)?)
    };
    turn_bit()?;
    daemon.hull(["pull", &name]).exits(1).says(damaged);
    check_nothing(&daemon)?;
    turn_bit()?;
    daemon.hull(["pull", &name]).ok();
    check_only_image(&daemon, &name)
}

#[test]
fn a_manifest_whose_sizes_lie_is_refused_and_nothing_is_kept() -> Result<()> {
    let daemon = Daemon::empty()?;
    let registry = DockerRegistry::plain()?;
    let content = layer("file", MIB, 4)?;
    let blob = upload::blob(&registry, "team/app", TAR, &content)?;
    let size = content.len();
    for (tag, lie, words) in [
        ("short", size - 512, "bytes"),
        ("long", size + 512, "bytes"),
        ("huge", 1 << 50, "bytes that are allowed"),
    ] {
        let mut layer = blob.clone();
        layer["size"] = json!(lie);
        upload::image_of(&registry, "team/app", tag, &[layer], &[digest(&content)])?;
        let refused = daemon
            .hull(["pull", &format!("{}/team/app:{tag}", registry.host)])
            .exits(1)
            .says(blob["digest"].as_str().context("no digest")?)
            .says(words);
        println!("{tag}: {}", refused.stderr.trim());
        check_nothing(&daemon)?;
    }
    Ok(())
}

#[test]
fn a_full_disk_is_named_leaves_nothing_and_a_retry_works_when_there_is_space() -> Result<()> {
    // A layer lies there twice: as it came, and as a file system.
    let daemon = Daemon::start_with(DaemonSpec {
        memory: Some(48 * MIB as u64),
        empty: true,
        ..DaemonSpec::default()
    })?;
    let registry = DockerRegistry::plain()?;
    let layers = [layer("first", 4 * MIB, 5)?, layer("second", 10 * MIB, 6)?];
    upload::image(&registry, "team/app", "1", &layers)?;
    let name = format!("{}/team/app:1", registry.host);
    let filler = daemon.root().join("filler");
    fs::write(&filler, vec![7; 30 * MIB])?;
    for _ in 0..2 {
        daemon
            .hull(["pull", &name])
            .exits(1)
            .says("No space left on device");
        check_nothing(&daemon)?;
    }
    fs::remove_file(&filler)?;
    daemon.hull(["pull", &name]).ok();
    check_only_image(&daemon, &name)
}

#[test]
fn two_pulls_of_one_image_at_once_do_one_download() -> Result<()> {
    let daemon = Daemon::empty()?;
    let registry = DockerRegistry::plain()?;
    let content = layer("big", 16 * MIB, 7)?;
    let manifest = upload::image(&registry, "team/app", "1", std::slice::from_ref(&content))?;
    let relay = Relay::to(&registry.host)?;
    let name = format!("{}/team/app:1", relay.host);
    relay.stop_after(6 * MIB as u64);
    let first = beside(&daemon, &["pull", &name])?;
    relay.wait_until_stopped()?;
    let mut second = beside(&daemon, &["pull", &name])?;
    let digest = manifest["layers"][0]["digest"].as_str().context("no digest")?;
    let told = digest.get(7..19).context("a short digest")?.to_owned();
    let mut lines = BufReader::new(second.stdout.take().context("no stdout")?).lines();
    let joined = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains(&told));
    ensure!(
        joined,
        "the second pull told nothing of the layer: {}",
        outcome(second)?
    );
    relay.open();
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    outcome(first)?.ok();
    outcome(second)?.ok();
    let rest = rest.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    assert!(rest.contains(&name), "{rest}");
    let (served, size) = (relay.served(), content.len() as u64);
    assert!(
        (size..size + OVERHEAD).contains(&served),
        "{served} bytes came for {size}"
    );
    check_only_image(&daemon, &name)
}

#[test]
fn two_images_at_once_that_share_a_layer_bring_it_once() -> Result<()> {
    let daemon = Daemon::empty()?;
    let registry = DockerRegistry::plain()?;
    let shared = layer("shared", 16 * MIB, 8)?;
    for tag in ["1", "2"] {
        let own = layer(tag, 1000, tag.parse()?)?;
        upload::image(&registry, "team/app", tag, &[shared.clone(), own])?;
    }
    let relay = Relay::to(&registry.host)?;
    relay.stop_after(6 * MIB as u64);
    let pull = |tag: &str| beside(&daemon, &["pull", &format!("{}/team/app:{tag}", relay.host)]);
    let first = pull("1")?;
    relay.wait_until_stopped()?;
    let second = pull("2")?;
    relay.open();
    outcome(first)?.ok();
    outcome(second)?.ok();
    let (served, size) = (relay.served(), shared.len() as u64);
    assert!(
        (size..size + OVERHEAD).contains(&served),
        "{served} bytes came for {size}"
    );
    daemon.hull(["system", "check"]).ok();
    Ok(())
}

#[test]
fn a_store_that_cannot_be_written_is_named() -> Result<()> {
    let daemon = Daemon::empty()?;
    let registry = DockerRegistry::plain()?;
    upload::image(&registry, "team/app", "1", &[layer("file", 1000, 9)?])?;
    let name = format!("{}/team/app:1", registry.host);
    let staging = daemon.root().join("tmp");
    fs::remove_dir(&staging)?;
    daemon.hull(["pull", &name]).exits(1).says("/tmp");
    fs::create_dir(&staging)?;
    fs::set_permissions(&staging, fs::Permissions::from_mode(0o700))?;
    daemon.hull(["pull", &name]).ok();
    check_only_image(&daemon, &name)
}
