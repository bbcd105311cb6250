//! What the network adds to the start of a container.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Places;
use crate::figures::Series;

const ROUNDS: usize = 20;
/// As many times as long as without a network it may take to start.
const GOAL: f64 = 1.1;

/// Times of a container, from when the command line is run.
#[derive(Default)]
struct Times {
    /// To the first that it prints.
    started: Series,
    /// To the end of the command line, when the container is removed.
    ended: Series,
}

impl Times {
    /// Runs one.
    fn add(&mut self, places: &Places, options: &[&str]) -> Result<()> {
        let began = Instant::now();
        let mut running = Command::new(&places.hull)
            .args(["run", "--rm"])
            .args(options)
            .args(["busybox", "echo", "started"])
            .stdout(Stdio::piped())
            .spawn()
            .context("hull cannot be executed")?;
        let mut output = running.stdout.take().context("it has no output")?;
        let mut printed = [0; 1];
        let first = output.read_exact(&mut printed);
        self.started.add(began.elapsed());
        let status = running.wait()?;
        self.ended.add(began.elapsed());
        ensure!(
            status.success() && first.is_ok(),
            "hull run {options:?} ended with {status}"
        );
        Ok(())
    }
}

/// Prints the times of a container on the default bridge, and of one that has its loopback only.
pub(super) fn measure(places: &Places) -> Result<()> {
    let (mut with, mut without) = (Times::default(), Times::default());
    for round in 0..ROUNDS + 2 {
        if round == 2 {
            (with, without) = (Times::default(), Times::default());
        }
        with.add(places, &[])?;
        without.add(places, &["--network", "none"])?;
    }
    println!(
        "\n`hull run --rm busybox echo started` on the default bridge, and with `--network none`, {ROUNDS} rounds in turn after two to \
         warm up\n"
    );
    println!(
        "| up to | network median ms | quartiles ms | none median ms | quartiles ms | network / none | goal |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let print = |what: &str, with: &Series, without: &Series, goal: &str| {
        let ratio = with.median() / without.median();
        println!("| {what} | {with} | {without} | {ratio:.2} | {goal} |");
    };
    let goal = format!("≤ {GOAL}");
    print("the first output", &with.started, &without.started, &goal);
    print("the end, the container removed", &with.ended, &without.ended, "–");
    Ok(())
}
