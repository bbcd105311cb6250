//! How long a command in a container takes while others take all they can get.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::Places;
use crate::figures::Series;
use crate::peers::run;

const ROUNDS: usize = 30;
/// As many times as long it may take.
const GOAL: f64 = 3.0;
/// How long they take to be at their limits.
const SETTLE: Duration = Duration::from_secs(15);

/// Each takes one thing without end.
const HOGS: [(&str, &str); 5] = [
    (
        "forks",
        "while :; do (while :; do sleep 1000 & done) 2>/dev/null; done",
    ),
    ("memory", "while :; do tail /dev/zero; done"),
    ("disk", "while :; do dd if=/dev/zero of=/fill bs=1M; done"),
    ("log", "while :; do echo a line for somebody to keep; done"),
    ("CPU", "while :; do :; done"),
];

/// Prints the time of `exec true`, alone and beside the hogs.
pub(crate) fn measure(places: &Places) -> Result<()> {
    let name = |what: &str| format!("bench-hogs-{what}-{}", std::process::id());
    let hull = |arguments: &[&str]| run(Command::new(&places.hull).args(arguments)).map(drop);
    let neighbour = name("neighbour");
    let mut started = vec![neighbour.clone()];
    let mut measured = || -> Result<(Series, Series)> {
        hull(&["run", "-d", "--name", &neighbour, "busybox", "sleep", "100000"])?;
        let rounds = || -> Result<Series> {
            let mut series = Series::new();
            for _ in 0..ROUNDS {
                series.time(|| hull(&["exec", &neighbour, "true"]))?;
            }
            Ok(series)
        };
        rounds()?;
        let alone = rounds()?;
        for (what, script) in HOGS {
            started.push(name(what));
            let limits = "--cpus 0.3 -m 64m --pids-limit 50 --storage-opt size=64M --log-opt max-size=1m --log-opt max-file=2";
            let mut run = vec!["run", "-d", "--name", &started[started.len() - 1]];
            run.extend(limits.split(' '));
            run.extend(["busybox", "sh", "-c", script]);
            hull(&run)?;
        }
        std::thread::sleep(SETTLE);
        Ok((alone, rounds()?))
    };
    let measured = measured();
    for name in &started {
        hull(&["rm", "-f", name])?;
    }
    let (alone, beside) = measured?;
    let hogs: Vec<_> = HOGS.iter().map(|(what, _)| *what).collect();
    println!(
        "\n`exec true` in a container, alone and beside five that take all they can get ({}), {ROUNDS} rounds each\n",
        hogs.join(", ")
    );
    println!(
        "| alone: median ms | quartiles ms | beside: median ms | quartiles ms | beside / alone | goal |"
    );
    println!("|---:|---|---:|---|---:|---:|");
    println!(
        "| {alone} | {beside} | {:.2} | ≤ {GOAL} |",
        beside.median() / alone.median()
    );
    Ok(())
}
