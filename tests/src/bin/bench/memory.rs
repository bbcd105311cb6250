//! What a VMM takes over the memory of its guest.

use std::fs;
use std::process::Command;

use anyhow::Result;

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
    let (guest, vmm): (Vec<_>, Vec<_>) = mappings.iter().partition(|mapping| mapping.is_guest);
    let sum = |mappings: &[&Mapping], of: fn(&Mapping) -> u64| {
        mappings.iter().map(|mapping| of(mapping)).sum::<u64>()
    };
    let over = sum(&vmm, |mapping| mapping.pss);
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!("\nMemory of a VMM with one vCPU, a container sleeping in it (proportional set size)\n");
    println!("| what | MiB | goal |\n|---|---:|---:|");
    println!(
        "| guest memory in use, of {:.0} | {:.1} | – |",
        mib(sum(&guest, |mapping| mapping.size)),
        mib(sum(&guest, |mapping| mapping.pss))
    );
    println!("| VMM over guest memory | {:.1} | ≤ {GOAL_MIB} |", mib(over));
    Ok(())
}

/// A mapping, its sizes in KiB.
#[derive(Default)]
struct Mapping {
    size: u64,
    pss: u64,
    is_guest: bool,
}

/// The mappings of a process (`proc(5)`, smaps). Guest memory is what is advised to be backed by huge pages, and what is
/// mapped from a template in its place.
fn mappings(smaps: &str) -> Result<Vec<Mapping>> {
    let mut mappings = Vec::<Mapping>::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (key, value) = (words.next(), words.next());
        match (key, value, mappings.last_mut()) {
            (Some("Size:"), Some(kib), Some(mapping)) => mapping.size = kib.parse()?,
            (Some("Pss:"), Some(kib), Some(mapping)) => mapping.pss = kib.parse()?,
            (Some("VmFlags:"), _, Some(mapping)) => {
                mapping.is_guest |= line.split_whitespace().any(|flag| flag == "hg")
            }
            (Some(range), Some(_), _) if !range.ends_with(':') => mappings.push(Mapping {
                is_guest: line.contains("/templates/"),
                ..Mapping::default()
            }),
            _ => {}
        }
    }
    anyhow::ensure!(
        mappings.iter().any(|mapping| mapping.is_guest),
        "the VMM has no guest memory"
    );
    Ok(mappings)
}
