//! What the network adds to the start of a container.

use std::process::Command;

use anyhow::Result;

use crate::Places;
use crate::figures::Series;
use crate::peers::run;

const ROUNDS: usize = 20;
/// As many times as long as without a network it may take.
const GOAL: f64 = 1.1;

/// Prints the time of a container on the default bridge, and of one that has its loopback only.
pub(super) fn measure(places: &Places) -> Result<()> {
    let hull = |options: &[&str]| {
        let mut command = Command::new(&places.hull);
        command.args(["run", "--rm"]).args(options);
        run(command.args(["busybox", "true"])).map(drop)
    };
    let (mut with, mut without) = (Series::new(), Series::new());
    for round in 0..ROUNDS + 2 {
        if round == 2 {
            (with, without) = (Series::new(), Series::new());
        }
        with.time(|| hull(&[]))?;
        without.time(|| hull(&["--network", "none"]))?;
    }
    println!(
        "\nStart to end of `hull run --rm busybox true` on the default bridge, and with `--network none`, {ROUNDS} rounds in turn \
         after two to warm up\n"
    );
    println!("| network median ms | quartiles ms | none median ms | quartiles ms | network / none | goal |");
    println!("|---:|---:|---:|---:|---:|---:|");
    let ratio = with.median() / without.median();
    println!("| {with} | {without} | {ratio:.2} | ≤ {GOAL} |");
    Ok(())
}
