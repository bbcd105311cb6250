//! Listing the images of a store that has many.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use system_tests::Daemon;

use super::ROUNDS;
use super::site::{Site, daemon, hull};
use crate::figures::Series;
use crate::peers::run;

const FEW: usize = 10;
const MANY: usize = 10_000;
/// The most that listing many may take longer than listing few, in milliseconds.
const GOAL_MS: f64 = 200.0;

/// The digest of the empty tar archive, two blocks of zeros.
const EMPTY_LAYER: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Prints the table.
pub(crate) fn measure(site: &Site) -> Result<()> {
    let stores = [FEW, MANY].map(|count| store(site, count));
    let mut all = Vec::new();
    for store in stores {
        all.push((store?, Series::new()));
    }
    for round in 0..=ROUNDS {
        for (store, series) in &mut all {
            let output = series.time(|| hull(&store.daemon, &["images"]))?;
            let lines = output.stdout.split(|byte| *byte == b'\n').count();
            ensure!(lines > store.count, "{lines} lines for {} images", store.count);
            if round == 0 {
                *series = Series::new();
            }
        }
    }
    println!("\nhull images: {ROUNDS} rounds in turn after one to warm up\n");
    println!("| images in the store | median ms | min ms | max ms | more than few, ms | goal |");
    println!("|---|---:|---:|---:|---:|---:|");
    let few = all.first().map_or(f64::NAN, |(_, series)| series.median());
    for (store, series) in &all {
        let (median, (min, max)) = (series.median(), series.range());
        let (count, more) = (store.count, median - few);
        println!("| {count} | {median:.0} | {min:.0} | {max:.0} | {more:.0} | ≤ {GOAL_MS} |");
    }
    Ok(())
}

struct Store {
    daemon: Daemon,
    count: usize,
}

/// A daemon with so many images: each with a configuration and a name of its own, all with one empty layer.
fn store(site: &Site, count: usize) -> Result<Store> {
    let name = format!("many-{count}");
    let folder = site.folder().join(format!("{name}.archive"));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("layer.tar"), [0; 1024])?;
    let mut manifest = Vec::new();
    for number in 0..count {
        let config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Labels": { "number": number.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [EMPTY_LAYER] },
        });
        let file = format!("{number}.json");
        fs::write(folder.join(&file), config.to_string())?;
        manifest.push(serde_json::json!({
            "Config": file,
            "RepoTags": [format!("bench/image-{number}:latest")],
            "Layers": ["layer.tar"],
        }));
    }
    serde_json::to_writer(File::create(folder.join("manifest.json"))?, &manifest)?;
    let archive = site.folder().join(format!("{name}.tar"));
    let mut command = Command::new("tar");
    command.arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".");
    run(&mut command)?;
    // To bring so many images safely onto a disk takes minutes; the list is made of a database that is in memory anyway.
    let daemon = daemon(site.memory().join(&name))?;
    println!("Loading {count} images ...");
    let archive = archive.to_str().context("the path is not UTF-8")?;
    hull(&daemon, &["load", "--quiet", "--input", archive])?;
    Ok(Store { daemon, count })
}
