//! What containers that do nothing take, and the daemon with them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Places;
use crate::peers::run;

/// How many containers there are, in turn.
const COUNTS: [usize; 3] = [0, 10, 50];
/// How long processor time is counted for.
const WINDOW: Duration = Duration::from_secs(30);
/// How long what a start has set off may take to end.
const SETTLE: Duration = Duration::from_secs(10);

/// Prints what they take.
pub(crate) fn measure(places: &Places) -> Result<()> {
    let hull = |arguments: &[&str]| run(Command::new(&places.hull).args(arguments));
    let name = |n: usize| format!("bench-idle-{}-{n}", std::process::id());
    println!(
        "\nIdle containers (`sleep`), and the daemon: memory, and processor time in {} s\n",
        WINDOW.as_secs()
    );
    println!("| containers | hulld MiB | hulld CPU % | a VMM with its guest MiB | a VMM's CPU % |");
    println!("|---:|---:|---:|---:|---:|");
    let mut pids = Vec::new();
    let mut rows = || -> Result<()> {
        for count in COUNTS {
            while pids.len() < count {
                let name = name(pids.len());
                hull(&["run", "-d", "--name", &name, "busybox", "sleep", "100000"])?;
                let pid = hull(&["inspect", "--format", "{{.State.Pid}}", &name])?;
                pids.push(String::from_utf8(pid.stdout)?.trim().to_owned());
            }
            println!("{}", row(&pids)?);
        }
        Ok(())
    };
    let measured = rows();
    for n in 0..pids.len() {
        hull(&["rm", "-f", &name(n)])?;
    }
    measured
}

fn row(vmms: &[String]) -> Result<String> {
    let daemon = String::from_utf8(run(Command::new("pidof").arg("hulld"))?.stdout)?;
    let daemon = daemon.trim();
    std::thread::sleep(SETTLE);
    let times = || -> Result<(f64, f64)> {
        let all: Vec<_> = vmms.iter().map(|pid| cpu_seconds(pid)).collect::<Result<_>>()?;
        Ok((cpu_seconds(daemon)?, all.iter().sum()))
    };
    let (daemon_before, vmms_before) = times()?;
    std::thread::sleep(WINDOW);
    let (daemon_after, vmms_after) = times()?;
    let percent = |seconds: f64| 100.0 * seconds / WINDOW.as_secs_f64();
    let memory: Vec<_> = vmms.iter().map(|pid| pss_mib(pid)).collect::<Result<_>>()?;
    let count = vmms.len() as f64;
    let each = |sum: f64, digits: usize| match vmms.is_empty() {
        true => "–".to_owned(),
        false => format!("{:.digits$}", sum / count),
    };
    Ok(format!(
        "| {count} | {:.1} | {:.2} | {} | {} |",
        pss_mib(daemon)?,
        percent(daemon_after - daemon_before),
        each(memory.iter().sum(), 1),
        each(percent(vmms_after - vmms_before), 2)
    ))
}

/// The proportional set size of a process (`proc(5)`, smaps_rollup) in MiB.
fn pss_mib(pid: &str) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib: f64 = kib
        .context("smaps_rollup has no Pss")?
        .trim_end_matches("kB")
        .trim()
        .parse()?;
    Ok(kib / 1024.0)
}

/// The processor time that the threads of a process have taken (`proc(5)`, schedstat: in nanoseconds).
fn cpu_seconds(pid: &str) -> Result<f64> {
    let schedstat = |task: &str| -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat"))?;
        Ok(text
            .split_whitespace()
            .next()
            .context("an empty schedstat")?
            .parse()?)
    };
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        nanoseconds += schedstat(&task?.file_name().to_string_lossy())?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
