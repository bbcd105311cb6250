//! `make bench`: what hull says of its speed and size, measured against named peers in the same run and the same place.
//!
//! Run by a person, this prepares the peers and runs itself again where hull's microVMs run (on this host, or in the helper
//! VM); run there, it measures and prints the tables. What it says of images it measures on this host. Its arguments are the
//! parts to measure; without any, all are. Run as PID 1, it is the init that QEMU's microVM boots to, with
//! the argument `workload` what is measured of storage, wherever that is, and with `network-guest` what others are measured with
//! over the network.

mod build;
mod bundle;
mod exec;
mod figures;
mod hogs;
mod idle;
mod images;
mod memory;
mod network;
mod peers;
mod start;
mod storage;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use system_tests::{Hull, Place};

/// The argument with which the program runs itself in the place of the microVMs.
const HERE: &str = "here";
/// The part that is measured on this host.
const IMAGES: &str = "images";

/// The parts that need programs of their own.
const NETWORK: &str = "network";
const BUILD: &str = "build";

/// A part that is measured where microVMs run.
type Part = fn(&Places) -> Result<()>;

/// Those parts, in the order in which they are measured.
const PARTS: [(&str, Part); 8] = [
    ("start", start::measure),
    ("memory", memory::measure),
    ("exec", exec::measure),
    ("hogs", hogs::measure),
    ("idle", idle::measure),
    ("storage", storage::measure),
    (NETWORK, network::measure),
    (BUILD, build::measure),
];

/// Where the programs are that are measured.
pub(crate) struct Places {
    /// The `hull` program.
    pub(crate) hull: PathBuf,
    /// hull's other programs and images.
    pub(crate) lib: PathBuf,
    /// The folder that `peers::prepare` filled.
    pub(crate) peers: PathBuf,
    /// A folder for the containers of the peers, on the file system that hull's have their disks on.
    pub(crate) disk: PathBuf,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(HERE) => {
            let mut path = || arguments.next().map(PathBuf::from).context("a path is missing");
            let places = Places {
                hull: path()?,
                lib: path()?,
                peers: path()?,
                disk: path()?,
            };
            measure(&places, &arguments.collect::<Vec<_>>())
        }
        // In a container this may be PID 1, too.
        Some(workload::ARGUMENT) => workload::run(&arguments.collect::<Vec<_>>()),
        Some(network::GUEST) => network::be_guest(),
        Some(network::ROUND_TRIPS) => network::print_round_trips(&arguments.collect::<Vec<_>>()),
        _ if std::process::id() == 1 => peers::be_init(),
        first => prepare_and_run(
            &first
                .map(str::to_owned)
                .into_iter()
                .chain(arguments)
                .collect::<Vec<_>>(),
        ),
    }
}

/// Whether a part is to be measured.
fn wanted(parts: &[String], part: &str) -> bool {
    parts.is_empty() || parts.iter().any(|wanted| wanted == part)
}

fn measure(places: &Places, parts: &[String]) -> Result<()> {
    let _mounts = peers::set_up(places)?;
    for (_, measure) in PARTS.iter().filter(|(part, _)| wanted(parts, part)) {
        measure(places)?;
    }
    Ok(())
}

fn prepare_and_run(parts: &[String]) -> Result<()> {
    let known: Vec<_> = PARTS.iter().map(|(part, _)| *part).chain([IMAGES]).collect();
    for part in parts {
        ensure!(
            known.contains(&part.as_str()),
            "there is no part {part}: {known:?} are there"
        );
    }
    let hull = Hull::instance()?;
    if parts.iter().any(|part| part != IMAGES) || parts.is_empty() {
        measure_where_microvms_run(&hull, parts)?;
    }
    if wanted(parts, IMAGES) {
        images::measure(&hull)?;
    }
    Ok(())
}

fn measure_where_microvms_run(hull: &Hull, parts: &[String]) -> Result<()> {
    hull.hull(["info"]).ok();
    let folder = hull.prefix().join("bench");
    let program = std::env::current_exe()?;
    let disk = hull.state_root().join("bench-peers");
    println!("Preparing the peers in {} ...", folder.display());
    peers::prepare(&folder, &program)?;
    if wanted(parts, NETWORK) {
        network::prepare(&folder, &program)?;
    }
    if wanted(parts, BUILD) {
        build::prepare(&folder, hull)?;
    }
    let status = match hull.place() {
        Place::Host => {
            let mut command = Command::new(&program);
            hull.environment(&mut command);
            command
                .arg(HERE)
                .args([&hull.prefix().join("bin/hull"), &hull.lib(), &folder, &disk])
                .args(parts)
                .status()?
        }
        Place::Machine => {
            let shared = |path: &Path| Path::new("/host").join(path.strip_prefix("/").unwrap_or(path));
            let mut command = hull.command(["machine", "shell"]);
            command.arg(shared(&program)).arg(HERE);
            command
                .args(["/usr/local/bin/hull", "/usr/local/lib/hull"])
                .arg(shared(&folder))
                .arg(&disk)
                .args(parts)
                .status()?
        }
    };
    ensure!(status.success(), "the measurements ended with {status}");
    Ok(())
}
