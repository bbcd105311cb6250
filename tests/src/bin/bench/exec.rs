//! How long a command in a container that runs takes.

use std::process::Command;

use anyhow::Result;

use crate::Places;
use crate::bundle::Running;
use crate::figures::Series;
use crate::peers::run;

const ROUNDS: usize = 30;

/// Prints the times of `exec true`.
pub(crate) fn measure(places: &Places) -> Result<()> {
    let name = format!("bench-exec-{}", std::process::id());
    let hull = |arguments: &[&str]| run(Command::new(&places.hull).args(arguments)).map(drop);
    hull(&["run", "-d", "--name", &name, "busybox", "sleep", "100000"])?;
    let measured = rounds(|| hull(&["exec", &name, "true"]));
    hull(&["rm", "-f", &name])?;
    let (ours, theirs) = measured?;
    println!("\n`exec true` in a container that runs, {ROUNDS} rounds in turn after two to warm up\n");
    println!("| peer | median ms | quartiles ms | hull median ms | quartiles ms | hull / peer |");
    println!("|---|---:|---:|---:|---:|---:|");
    let ratio = ours.median() / theirs.median();
    println!("| crun exec (no Docker daemon) | {theirs} | {ours} | {ratio:.2} |");
    Ok(())
}

fn rounds(hull: impl Fn() -> Result<()>) -> Result<(Series, Series)> {
    let crun = Running::start("crun")?;
    let (mut ours, mut theirs) = (Series::new(), Series::new());
    for round in 0..ROUNDS + 2 {
        if round == 2 {
            (ours, theirs) = (Series::new(), Series::new());
        }
        ours.time(&hull)?;
        theirs.time(|| crun.exec(&["true"]))?;
    }
    Ok((ours, theirs))
}
