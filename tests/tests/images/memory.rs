//! How much memory hulld takes for an image that is much larger.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use system_tests::{Daemon, DockerRegistry};

use crate::content::{TAR, digest, layer};
use crate::upload;

/// The most that hulld may ever have.
const MOST: u64 = 64 << 20;

/// A layer's archive through a compressing program.
fn compress(program: &[&str], archive: Vec<u8>) -> Result<Vec<u8>> {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} could not be run", program[0]))?;
    let mut input = child.stdin.take().context("no stdin")?;
    let writing = std::thread::spawn(move || input.write_all(&archive));
    let output = child.wait_with_output()?;
    writing
        .join()
        .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(output.status.success(), "{program:?} failed");
    Ok(output.stdout)
}

#[test]
fn an_image_of_300_mb_comes_and_goes_in_64_mib_of_memory() -> Result<()> {
    let mut daemon = Daemon::empty()?;
    let registry = DockerRegistry::plain()?;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    let kinds: [(&str, &[&str], usize); 4] = [
        ("", &["cat"], 80),
        ("+zstd", &["zstd", "-1"], 80),
        ("+zstd", &["zstd", "--ultra", "-20", "--long=23"], 20),
        ("+gzip", &["gzip", "-1"], 120),
    ];
    for (number, (kind, program, size)) in kinds.into_iter().enumerate() {
        let archive = layer(&number.to_string(), size << 20, 20 + number as u64)?;
        diff_ids.push(digest(&archive));
        let media_type = format!("{TAR}{kind}");
        layers.push(upload::blob(
            &registry,
            "team/big",
            &media_type,
            &compress(program, archive)?,
        )?);
    }
    upload::image_of(&registry, "team/big", "1", &layers, &diff_ids)?;
    let name = format!("{}/team/big:1", registry.host);
    let check = |daemon: &Daemon, what: &str| -> Result<()> {
        let peak = daemon.peak_memory()?;
        println!("peak memory of hulld, {what}: {:.1} MiB", peak as f64 / 1048576.0);
        ensure!(peak <= MOST, "{what}: {peak} bytes");
        Ok(())
    };
    daemon.hull(["pull", "-q", &name]).ok();
    check(&daemon, "pull")?;
    daemon.kill()?;
    daemon.restart()?;
    let other = format!("{}/team/other:1", registry.host);
    daemon.hull(["tag", &name, &other]).ok();
    daemon.hull(["push", "-q", &other]).ok();
    daemon.hull(["system", "check", "-q"]).ok();
    check(&daemon, "push and check")
}
