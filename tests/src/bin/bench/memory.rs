//! What a VMM takes over the memory of its guest.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::Places;
use crate::peers::run;

/// The most a VMM may take over its guest's memory, in MiB, with one vCPU.
const GOAL_MIB: f64 = 8.0;

/// Prints the memory of one VMM.
pub(crate) fn measure(places: &Places) -> Result<()> {
    let hull = |arguments: &[&str]| run(Command::new(&places.hull).args(arguments));
    let name = format!("bench-memory-{}", std::process::id());
    hull(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let pid = hull(&["inspect", "--format", "{{.State.Pid}}", &name])?;
    let pid = String::from_utf8(pid.stdout)?;
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", pid.trim()))?;
    hull(&["rm", "-f", &name])?;
    let mappings = mappings(&smaps)?;
    let guest = mappings
        .iter()
        .max_by_key(|mapping| mapping.size)
        .context("the VMM has no mappings")?;
    let over: u64 = mappings.iter().map(|mapping| mapping.pss).sum::<u64>() - guest.pss;
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!("\nMemory of a VMM with one vCPU, a container sleeping in it (proportional set size)\n");
    println!("| what | MiB | goal |\n|---|---:|---:|");
    println!(
        "| guest memory in use, of {:.0} | {:.1} | – |",
        mib(guest.size),
        mib(guest.pss)
    );
    println!("| VMM over guest memory | {:.1} | ≤ {GOAL_MIB} |", mib(over));
    Ok(())
}

/// A mapping, its sizes in KiB.
#[derive(Default)]
struct Mapping {
    size: u64,
    pss: u64,
}

/// The mappings of a process (`proc(5)`, smaps).
fn mappings(smaps: &str) -> Result<Vec<Mapping>> {
    let mut mappings = Vec::<Mapping>::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (key, value) = (words.next(), words.next());
        match (key, value, mappings.last_mut()) {
            (Some("Size:"), Some(kib), _) => mappings.push(Mapping {
                size: kib.parse()?,
                pss: 0,
            }),
            (Some("Pss:"), Some(kib), Some(mapping)) => mapping.pss = kib.parse()?,
            _ => {}
        }
    }
    Ok(mappings)
}
