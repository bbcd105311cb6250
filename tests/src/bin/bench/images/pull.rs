//! Pulling and unpacking the Debian image against skopeo and umoci.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use system_tests::DockerRegistry;

use super::site::{Site, daemon, forget, hull};
use super::{DEBIAN, ROUNDS};
use crate::figures::Series;
use crate::peers::run;

/// The most that hull may take of their time.
const GOAL: f64 = 0.4;

/// `skopeo copy` into a layout and `umoci unpack` of it. Both write into memory, to their advantage: on a disk with ext4
/// it takes long to find inodes where many were freed in the last minutes, and umoci would be slower with every run.
struct Peer {
    folder: PathBuf,
    source: String,
}

impl Peer {
    fn copy(&self) -> Result<()> {
        let target = format!("oci:{}:image", self.folder.join("layout").display());
        let mut command = Command::new("skopeo");
        run(command.args(["copy", "--quiet", "--src-tls-verify=false", &self.source, &target])).map(drop)
    }

    fn unpack(&self) -> Result<()> {
        let mut command = Command::new("umoci");
        command.arg("unpack");
        if !rustix::process::geteuid().is_root() {
            command.arg("--rootless");
        }
        let image = format!("{}:image", self.folder.join("layout").display());
        command.arg("--image").arg(image);
        run(command.arg(self.folder.join("bundle"))).map(drop)
    }
}

/// Prints the table.
pub(crate) fn measure(site: &Site, registry: &DockerRegistry) -> Result<()> {
    let daemon = daemon(site.folder().join("pull"))?;
    let image = registry.image(DEBIAN);
    let [mut ours, mut copy, mut unpack, mut both] = [const { Series::new() }; 4];
    // The first round warms up.
    for round in 0..=ROUNDS {
        let pulled = ours.time(|| hull(&daemon, &["pull", &image]))?;
        let said = String::from_utf8_lossy(&pulled.stdout);
        ensure!(
            said.contains("Pull complete"),
            "the image was there before: {said}"
        );
        forget(&daemon, &image)?;
        let peer = Peer {
            folder: site.memory().join("peer"),
            source: format!("docker://{image}"),
        };
        fs::create_dir(&peer.folder)?;
        both.time(|| {
            copy.time(|| peer.copy())?;
            unpack.time(|| peer.unpack())
        })?;
        fs::remove_dir_all(&peer.folder)?;
        if round == 0 {
            [ours, copy, unpack, both] = [const { Series::new() }; 4];
        }
    }
    println!(
        "\nThe Debian image from a registry on loopback, ready to be run: {ROUNDS} rounds in turn after one to warm up\n"
    );
    println!("| what | median ms | min ms | max ms | hull / this | goal |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, series, goal) in [
        ("hull pull, synced to the disk", &ours, None),
        ("skopeo copy + umoci unpack, in memory", &both, Some(GOAL)),
        ("of these, skopeo copy", &copy, None),
        ("of these, umoci unpack", &unpack, None),
    ] {
        let (median, (min, max)) = (series.median(), series.range());
        let ratio = ours.median() / median;
        let goal = goal.map_or("–".to_string(), |goal| format!("≤ {goal}"));
        println!("| {name} | {median:.0} | {min:.0} | {max:.0} | {ratio:.2} | {goal} |");
    }
    Ok(())
}
