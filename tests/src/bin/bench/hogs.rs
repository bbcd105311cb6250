//! How long a command in a container takes while others take all they can get.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use system_tests::hogs::{DISK, FORKS, FULL, HOGS, LIMITS, MOST_PROCESSES};

use crate::Places;
use crate::figures::Series;
use crate::peers::run;

const ROUNDS: usize = 30;
/// As many times as long it may take.
const GOAL: f64 = 3.0;
/// How long it may take until they are at their limits, where the processor is emulated.
const LONG: Duration = Duration::from_secs(180);

/// Prints the time of `exec true`, alone and beside the hogs.
pub(crate) fn measure(places: &Places) -> Result<()> {
    let site = Site {
        places,
        neighbour: name("neighbour"),
    };
    site.hull(&[
        "run",
        "-d",
        "--name",
        &site.neighbour,
        "busybox",
        "sleep",
        "100000",
    ])?;
    site.rounds()?;
    let alone = site.rounds()?;
    site.start_hogs()?;
    let beside = site.rounds()?;
    let hogs: Vec<_> = HOGS.iter().map(|(what, _)| *what).collect();
    println!(
        "\n`exec true` in a container, alone and beside five that take all they can get ({}), {ROUNDS} rounds each\n",
        hogs.join(", ")
    );
    println!("| alone median ms | quartiles ms | beside median ms | quartiles ms | beside / alone | goal |");
    println!("|---:|---:|---:|---:|---:|---:|");
    let ratio = beside.median() / alone.median();
    println!("| {alone} | {beside} | {ratio:.2} | ≤ {GOAL} |");
    Ok(())
}

fn name(what: &str) -> String {
    format!("bench-hogs-{what}-{}", std::process::id())
}

/// The containers, until it is dropped.
struct Site<'a> {
    places: &'a Places,
    neighbour: String,
}

impl Site<'_> {
    /// Carries a command of hull out, and returns what it printed on both streams.
    fn hull(&self, arguments: &[&str]) -> Result<String> {
        let output = run(Command::new(&self.places.hull).args(arguments))?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn rounds(&self) -> Result<Series> {
        let mut series = Series::new();
        for _ in 0..ROUNDS {
            series.time(|| self.hull(&["exec", &self.neighbour, "true"]))?;
        }
        Ok(series)
    }

    /// Starts them, and waits until those that say so are at their limits.
    fn start_hogs(&self) -> Result<()> {
        for (what, script) in HOGS {
            let name = name(what);
            // What takes memory is ended, and goes on.
            let mut run = vec!["run", "-d", "--restart", "always", "--name", &name];
            run.extend(LIMITS);
            run.extend(["busybox", "sh", "-c", script]);
            self.hull(&run)?;
        }
        let began = Instant::now();
        let (disk, forks) = (name(DISK), name(FORKS));
        let at_limits = || -> Result<bool> {
            let pids = self.hull(&["stats", "--no-stream", "--format", "{{.PIDs}}", &forks])?;
            let most = pids.trim().parse::<u32>()? >= MOST_PROCESSES;
            Ok(most && self.hull(&["logs", "--tail", "10", &disk])?.contains(FULL))
        };
        while !at_limits()? {
            ensure!(began.elapsed() < LONG, "the hogs do not reach their limits");
        }
        Ok(())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        let mut names = vec![self.neighbour.clone()];
        names.extend(HOGS.iter().map(|(what, _)| name(what)));
        let mut removal = Command::new(&self.places.hull);
        if let Err(error) = run(removal.args(["rm", "-f"]).args(names)) {
            eprintln!("{error:#}");
        }
    }
}
