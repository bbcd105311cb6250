//! How long a container takes from key press to prompt.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::figures::Series;
use crate::peers::{self, run};
use crate::{Places, bundle};

const ROUNDS: usize = 20;

/// What hull is measured against, and the most that hull may take of its time.
struct Peer {
    name: &'static str,
    does: &'static str,
    goal: Option<f64>,
    round: fn() -> Result<()>,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "crun run (busybox true)",
        does: "Docker's defaults (namespaces, an empty network, seccomp profile, capabilities, masked paths, device filter, \
               limits of one CPU and 512 MiB) on an overlay of the same layer with its upper directory on the same disk; \
               bundle and overlay are made and removed in each round; no Docker daemon, no shim",
        goal: Some(1.5),
        round: || bundle::round("crun"),
    },
    Peer {
        name: "runc run (busybox true)",
        does: "the same with runc",
        goal: Some(0.6),
        round: || bundle::round("runc"),
    },
    Peer {
        name: "QEMU microvm, same kernel, to init",
        does: "QEMU's smallest machine on KVM, 512 MiB, from process to init and out; no container",
        goal: Some(0.5),
        round: || run(&mut peers::qemu_microvm()).map(drop),
    },
    Peer {
        name: "chroot, busybox true",
        does: "the step into their root that the three peers above have in their figures",
        goal: None,
        round: || run(&mut peers::nothing()).map(drop),
    },
];

/// Prints the table of start times, and what each row does. Hull is measured in turn with one peer at a time: after a QEMU
/// guest it takes 100 ms longer here than after the others, and only its comparison with QEMU is to carry that.
fn table(places: &Places) -> Result<()> {
    // The peers have no network, either.
    let run_true = ["run", "--rm", "--network", "none", "busybox", "true"];
    let hull = || run(Command::new(&places.hull).args(run_true)).map(drop);
    println!(
        "\nStart to end of `hull run --rm --network none busybox true` and of a peer, {ROUNDS} rounds in turn with each peer"
    );
    println!("after two to warm up; daemon warm, microVM cold\n");
    println!("| peer | median ms | quartiles ms | hull median ms | quartiles ms | hull / peer | goal |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for peer in &PEERS {
        let (mut ours, mut theirs) = (Series::new(), Series::new());
        for _ in 0..2 {
            hull()?;
            (peer.round)()?;
        }
        for _ in 0..ROUNDS {
            ours.time(hull)?;
            theirs.time(peer.round)?;
        }
        let goal = peer.goal.map_or("–".to_string(), |goal| format!("≤ {goal}"));
        let ratio = ours.median() / theirs.median();
        println!("| {} | {theirs} | {ours} | {ratio:.2} | {goal} |", peer.name);
    }
    println!(
        "\n- hull run --rm --network none busybox true: the whole command: command line, API, a new microVM with a disk of its own, and all \
         of it gone again."
    );
    for peer in &PEERS {
        println!("- {}: {}.", peer.name, peer.does);
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
