//! What a daemon needs of memory while it pulls.

use std::process::Command;

use anyhow::Result;
use system_tests::{Daemon, DockerRegistry};

use super::DEBIAN;
use super::site::{Site, daemon, fill, forget, hull};
use crate::peers::run;

/// The most memory of a daemon, in MiB.
const GOAL_MIB: f64 = 64.0;
/// An image of 1 GiB, in more layers than are pulled at once.
const LARGE: &str = "large:latest";
/// Its layers.
const LAYERS: usize = 4;
/// A layer has a file of random bytes and one of zeros, so many MiB each.
const FILE_MIB: usize = 128;

/// Prints the table.
pub(crate) fn measure(site: &Site, registry: &DockerRegistry) -> Result<()> {
    make_large(site, registry)?;
    println!("\nMemory of a fresh hulld at its peak (VmHWM) while it pulls\n");
    println!("| image | MiB | goal |\n|---|---:|---:|");
    for (name, image) in [
        ("none yet", None),
        ("Debian", Some(DEBIAN)),
        ("1 GiB in four layers, half random, half zeros", Some(LARGE)),
    ] {
        let daemon = daemon(site.folder().join("memory"))?;
        if let Some(image) = image {
            let image = registry.image(image);
            hull(&daemon, &["pull", "--quiet", &image])?;
            println!("| {name} | {:.1} | ≤ {GOAL_MIB} |", peak(&daemon)?);
            forget(&daemon, &image)?;
        } else {
            println!("| {name} | {:.1} | – |", peak(&daemon)?);
        }
    }
    Ok(())
}

/// In MiB.
fn peak(daemon: &Daemon) -> Result<f64> {
    Ok(daemon.peak_memory()? as f64 / f64::from(1 << 20))
}

/// Makes the large image with umoci and brings it into the registry.
fn make_large(site: &Site, registry: &DockerRegistry) -> Result<()> {
    let script = r#"
        cd "$1"; mkdir data; umoci init --layout large; umoci new --image large:latest
        for layer in $(seq "$2"); do
            head -c "$3M" /dev/urandom >data/random; head -c "$3M" /dev/zero >data/zeros
            umoci insert --rootless --image large:latest data "/data-$layer"
        done
        rm -r data
    "#;
    let mut command = Command::new("sh");
    command.args(["-euc", script, "large"]).arg(site.folder());
    run(command.args([LAYERS, FILE_MIB].map(|number| number.to_string())))?;
    let layout = site.folder().join("large");
    fill(registry, &layout, LARGE)?;
    Ok(std::fs::remove_dir_all(layout)?)
}
