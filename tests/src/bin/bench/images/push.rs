//! Pushing an image that the registry has.

use std::process::Command;

use anyhow::{Result, ensure};
use system_tests::DockerRegistry;

use super::site::{Site, daemon, hull};
use super::{DEBIAN, ROUNDS};
use crate::figures::Series;
use crate::peers::run;

/// Prints the table.
pub(crate) fn measure(site: &Site, registry: &DockerRegistry) -> Result<()> {
    let daemon = daemon(site.folder().join("push"))?;
    let (image, archive) = (registry.image(DEBIAN), site.debian()?);
    hull(&daemon, &["pull", "--quiet", &image])?;
    let copy = || {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--dest-tls-verify=false"]);
        command.arg(format!("oci-archive:{}", archive.display()));
        run(command.arg(format!("docker://{image}")))
    };
    let [mut ours, mut skopeo] = [const { Series::new() }; 2];
    for round in 0..=ROUNDS {
        let pushed = ours.time(|| hull(&daemon, &["push", &image]))?;
        let said = String::from_utf8_lossy(&pushed.stdout);
        ensure!(!said.contains(": Pushed"), "a blob was uploaded: {said}");
        skopeo.time(copy)?;
        if round == 0 {
            [ours, skopeo] = [const { Series::new() }; 2];
        }
    }
    println!("\nThe Debian image to a registry that has it: {ROUNDS} rounds in turn after one to warm up\n");
    println!("| what | median ms | min ms | max ms | hull / this |");
    println!("|---|---:|---:|---:|---:|");
    for (name, series) in [("hull push", &ours), ("skopeo copy, from an archive", &skopeo)] {
        let (median, (min, max)) = (series.median(), series.range());
        let ratio = ours.median() / median;
        println!("| {name} | {median:.0} | {min:.0} | {max:.0} | {ratio:.2} |");
    }
    Ok(())
}
