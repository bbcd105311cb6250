//! How long a container takes from key press to prompt.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Places;
use crate::figures::Series;
use crate::peers::{self, run};

const ROUNDS: usize = 10;

/// One thing that is measured, and the most that hull may take of it.
struct Row {
    name: &'static str,
    goal: Option<f64>,
    make: Box<dyn Fn() -> Command>,
}

fn rounds(rows: &[Row]) -> Result<Vec<Series>> {
    let mut all = vec![Series::default(); rows.len()];
    for row in rows {
        run(&mut (row.make)())?;
    }
    for _ in 0..ROUNDS {
        for (row, series) in rows.iter().zip(&mut all) {
            let mut command = (row.make)();
            series.time(|| run(&mut command).map(drop))?;
        }
    }
    Ok(all)
}

/// Prints the table of start times, and where hull's own went.
fn table(places: &Places) -> Result<()> {
    let hull = places.hull.clone();
    let rows = [
        Row {
            name: "hull run --rm busybox true",
            goal: None,
            make: Box::new(move || {
                let mut command = Command::new(&hull);
                command.args(["run", "--rm", "busybox", "true"]);
                command
            }),
        },
        Row {
            name: "crun run (busybox true)",
            goal: Some(1.5),
            make: Box::new(|| peers::oci_run("crun")),
        },
        Row {
            name: "runc run (busybox true)",
            goal: Some(0.6),
            make: Box::new(|| peers::oci_run("runc")),
        },
        Row {
            name: "QEMU microvm, same kernel, to init",
            goal: Some(0.5),
            make: Box::new(peers::qemu_microvm),
        },
    ];
    let all = rounds(&rows)?;
    let hull = all[0].median();
    println!("\nStart to end, {ROUNDS} rounds in turn after one to warm up; daemon warm, microVM cold\n");
    println!("| what | median ms | min ms | max ms | hull / this | goal |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (row, series) in rows.iter().zip(&all) {
        let (min, max) = series.range();
        let (median, ratio) = (series.median(), hull / series.median());
        let goal = row.goal.map_or("–".to_string(), |goal| format!("≤ {goal}"));
        println!(
            "| {} | {median:.0} | {min:.0} | {max:.0} | {ratio:.2} | {goal} |",
            row.name
        );
    }
    Ok(())
}

/// The steps of the daemon's timeline in their order, and what the time up to each was spent on.
const STEPS: [(&str, &str); 6] = [
    ("spawned", "VMM process spawned"),
    ("ready", "VMM, kernel and agent up"),
    ("created", "container mounted"),
    ("started", "command executed"),
    ("exited", "command ended"),
    ("gone", "VMM gone"),
];

/// Prints where the time of a start goes.
fn split(places: &Places) -> Result<()> {
    let hull = |arguments: &[&str]| run(Command::new(&places.hull).args(arguments));
    let mut total = Series::default();
    let mut steps = vec![Series::default(); STEPS.len()];
    for round in 0..ROUNDS {
        let name = format!("bench-split-{}-{round}", std::process::id());
        total.time(|| hull(&["run", "--name", &name, "busybox", "true"]).map(drop))?;
        let inspected = hull(&["inspect", &name])?;
        hull(&["rm", &name])?;
        let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout)?;
        let timeline = &inspected[0]["Hull"]["Timeline"];
        let mut before = 0;
        for ((step, _), series) in STEPS.iter().zip(&mut steps) {
            let at = timeline[step]
                .as_u64()
                .with_context(|| format!("the timeline lacks {step}: {timeline}"))?;
            series.add(Duration::from_micros(at.saturating_sub(before)));
            before = at;
        }
    }
    println!(
        "\nWhere `hull run busybox true` spends its time (medians; the container is kept, so its disk is synced)\n"
    );
    println!("| step | ms |\n|---|---:|");
    for ((_, name), series) in STEPS.iter().zip(&steps) {
        println!("| {name} | {:.0} |", series.median());
    }
    let inside: f64 = steps.iter().map(Series::median).sum();
    println!("| API and command line | {:.0} |", total.median() - inside);
    println!("| all | {:.0} |", total.median());
    Ok(())
}

/// Measures the start.
pub(crate) fn measure(places: &Places) -> Result<()> {
    table(places)?;
    split(places)
}
