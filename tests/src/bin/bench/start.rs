//! How long a container takes from key press to prompt.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::figures::Series;
use crate::peers::{self, run};
use crate::{Places, bundle};

const ROUNDS: usize = 20;

/// One thing that is measured, and the most that hull may take of it.
struct Row {
    name: &'static str,
    does: &'static str,
    goal: Option<f64>,
    round: Box<dyn Fn() -> Result<()>>,
}

fn rows(places: &Places) -> [Row; 5] {
    let hull = places.hull.clone();
    let bundle = |runtime| Box::new(move || bundle::round(runtime));
    [
        Row {
            name: "hull run --rm busybox true",
            does: "the whole command: command line, API, a new microVM with a disk of its own, and all of it gone again",
            goal: None,
            round: Box::new(move || {
                run(Command::new(&hull).args(["run", "--rm", "busybox", "true"])).map(drop)
            }),
        },
        Row {
            name: "crun run (busybox true)",
            does: "Docker's defaults (namespaces, an empty network, seccomp profile, capabilities, masked paths, device \
                   filter, limits of one CPU and 512 MiB) on an overlay of the same layer with its upper directory on \
                   the same disk; bundle and overlay are made and removed in each round; no Docker daemon, no shim",
            goal: Some(1.5),
            round: bundle("crun"),
        },
        Row {
            name: "runc run (busybox true)",
            does: "the same with runc",
            goal: Some(0.6),
            round: bundle("runc"),
        },
        Row {
            name: "QEMU microvm, same kernel, to init",
            does: "QEMU's smallest machine on KVM, 512 MiB, from process to init and out; no container",
            goal: Some(0.5),
            round: Box::new(|| run(&mut peers::qemu_microvm()).map(drop)),
        },
        Row {
            name: "chroot, busybox true",
            does: "the step into their root that the three peers above have in their figures",
            goal: None,
            round: Box::new(|| run(&mut peers::nothing()).map(drop)),
        },
    ]
}

fn rounds(rows: &[Row]) -> Result<Vec<Series>> {
    let mut all = vec![Series::default(); rows.len()];
    for row in rows {
        (row.round)()?;
    }
    for _ in 0..ROUNDS {
        for (row, series) in rows.iter().zip(&mut all) {
            series.time(&row.round)?;
        }
    }
    Ok(all)
}

/// Prints the table of start times, and what each row does.
fn table(places: &Places) -> Result<()> {
    let rows = rows(places);
    let all = rounds(&rows)?;
    let hull = all[0].median();
    println!("\nStart to end, {ROUNDS} rounds in turn after one to warm up; daemon warm, microVM cold\n");
    println!("| what | median ms | quartiles ms | min ms | max ms | hull / this | goal |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (row, series) in rows.iter().zip(&all) {
        let ((min, max), (first, third)) = (series.range(), series.quartiles());
        let (median, ratio) = (series.median(), hull / series.median());
        let goal = row.goal.map_or("–".to_string(), |goal| format!("≤ {goal}"));
        println!(
            "| {} | {median:.0} | {first:.0}–{third:.0} | {min:.0} | {max:.0} | {ratio:.2} | {goal} |",
            row.name
        );
    }
    println!();
    for row in &rows {
        println!("- {}: {}.", row.name, row.does);
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
    println!("| step | median ms | quartiles ms |\n|---|---:|---:|");
    for ((_, name), series) in STEPS.iter().zip(&steps) {
        let (first, third) = series.quartiles();
        println!("| {name} | {:.0} | {first:.0}–{third:.0} |", series.median());
    }
    let inside: f64 = steps.iter().map(Series::median).sum();
    println!("| API and command line | {:.0} | – |", total.median() - inside);
    let (first, third) = total.quartiles();
    println!("| all | {:.0} | {first:.0}–{third:.0} |", total.median());
    Ok(())
}

/// Measures the start.
pub(crate) fn measure(places: &Places) -> Result<()> {
    table(places)?;
    split(places)
}
