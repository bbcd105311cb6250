//! `make bench`: what hull says of its speed and size, measured against named peers in the same run and the same place.
//!
//! Run by a person, this prepares the peers and runs itself again where hull's microVMs run (on this host, or in the helper
//! VM); run there, it measures and prints the table. What it says of images it measures on this host, that alone with the
//! argument `images`. Run as PID 1, it is the init that QEMU's microVM boots to.

mod bundle;
mod figures;
mod images;
mod memory;
mod peers;
mod start;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use system_tests::{Hull, Place};

/// The argument with which the program runs itself in the place of the microVMs.
const HERE: &str = "here";
/// The argument for measuring images only.
const IMAGES: &str = "images";

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
    if std::process::id() == 1 {
        return peers::be_init();
    }
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == HERE => {
            let mut path = || arguments.next().map(PathBuf::from).context("a path is missing");
            measure(&Places {
                hull: path()?,
                lib: path()?,
                peers: path()?,
                disk: path()?,
            })
        }
        Some(first) if first == IMAGES => images::measure(&Hull::instance()?),
        _ => prepare_and_run(),
    }
}

fn measure(places: &Places) -> Result<()> {
    let _mounts = peers::set_up(places)?;
    start::measure(places)?;
    memory::measure(places)
}

fn prepare_and_run() -> Result<()> {
    let hull = Hull::instance()?;
    hull.hull(["info"]).ok();
    let folder = hull.prefix().join("bench");
    let program = std::env::current_exe()?;
    let disk = hull.state_root().join("bench-peers");
    println!("Preparing the peers in {} ...", folder.display());
    peers::prepare(&folder, &program)?;
    let status = match hull.place() {
        Place::Host => {
            let mut command = Command::new(&program);
            hull.environment(&mut command);
            command
                .arg(HERE)
                .args([&hull.prefix().join("bin/hull"), &hull.lib(), &folder, &disk])
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
                .status()?
        }
    };
    ensure!(status.success(), "the measurements ended with {status}");
    images::measure(&hull)
}
