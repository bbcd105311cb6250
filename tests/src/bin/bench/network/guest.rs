//! What runs in a guest: iperf3's server, nginx, and answers to round trips and to the host's commands.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount};

use super::{control, round_trips};
use crate::peers::run;

/// The first argument of a run that serves.
pub(crate) const ARGUMENT: &str = "network-guest";

/// Serves until the guest ends. The host's commands come last: who is answered there finds all that is measured.
pub(crate) fn be_guest() -> Result<()> {
    round_trips::serve()?;
    start_iperf3()?;
    start_nginx()?;
    control::serve()
}

fn start_iperf3() -> Result<()> {
    let mut child = Command::new("/iperf3")
        .args(["-s", "-4", "--forceflush"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start iperf3")?;
    let output = child.stdout.take().context("iperf3 has no output")?;
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let listens = lines.any(|line| line.contains("listening"));
    ensure!(listens, "iperf3 does not listen: it ended with {}", child.wait()?);
    // It would wait for whoever reads what it prints.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(())
}

/// It is in the background when it listens, and keeps its standard error, hence this must not be a pipe that is read to its end.
fn start_nginx() -> Result<()> {
    let status = Command::new("/nginx")
        .args(["-c", "/nginx.conf"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("start nginx")?;
    ensure!(status.success(), "nginx ended with {status}");
    Ok(())
}

/// What the init of QEMU's microVM does with an address and the length of its prefix; it says on its output what goes wrong.
pub(crate) fn be_init(address: &str) {
    let done = || -> Result<()> {
        for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
            fs::create_dir_all(target)?;
            mount(kind, target, kind, MountFlags::empty(), None)
                .with_context(|| format!("mount {target}"))?;
        }
        for command in [
            "link set lo up",
            &format!("address add {address} dev eth0"),
            "link set eth0 up",
        ] {
            run(Command::new("/busybox").arg("ip").args(command.split(' ')))?;
        }
        be_guest()
    };
    if let Err(error) = done() {
        eprintln!("{error:#}");
    }
}
