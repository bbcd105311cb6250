//! `hull machine`

use clap::{Args, Subcommand};
use machine::{HostReport, Machine, MachineDirs, MachineOptions, MachineReport};

use super::{print, print_line};
use crate::api::{Client, Directories};
use crate::failure::{CommandResult, Failure, complain};
use crate::format::binary_size;
use crate::installation;

#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set the helper VM's size and make its disk, without starting it
    Init(Size),
    /// Start the helper VM
    Start,
    /// Stop the helper VM; its disk stays
    Stop,
    /// Show what the helper VM is and does
    Status,
    /// Run a command in the helper VM, or a shell
    Shell(Shell),
    /// Remove the helper VM and its disk, with all containers and images on it
    Rm(Removal),
}

#[derive(Debug, Args)]
struct Size {
    /// Number of CPUs (default: all of the host's)
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<u32>,

    /// Memory in MiB (default: half of the host's, at most 4096)
    #[arg(short, long, value_name = "MIB")]
    memory: Option<u64>,

    /// Disk size in GiB; the file grows as it is used (default: 64)
    #[arg(long, value_name = "GIB")]
    disk: Option<u64>,
}

#[derive(Debug, Args)]
struct Shell {
    /// Command and its arguments (default: a login shell)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct Removal {
    /// Also when it runs
    #[arg(short, long)]
    force: bool,
}

/// What the helper VM reaches.
pub(super) const NETWORK: &str = "what this user reaches on the host; localhost in the VM is the host's";

/// The helper VM of this user.
pub(super) fn of_this_user() -> anyhow::Result<Machine> {
    let directories = Directories::of_this_user();
    Ok(Machine::new(MachineDirs::new(
        &directories.state,
        &directories.runtime,
        &installation::lib_dir()?,
        &directories.socket(),
    )))
}

pub(crate) async fn execute(_client: &Client, arguments: Arguments) -> CommandResult {
    let machine = of_this_user()?;
    match arguments.command {
        Command::Init(size) => init(&machine, &size),
        Command::Start => start(&machine).await,
        Command::Stop => match machine.stop().await? {
            true => Ok(print_line("the helper VM has stopped")?),
            false => Ok(print_line("the helper VM is not running")?),
        },
        Command::Status => status(&machine.report().await?),
        Command::Shell(shell) => {
            let code = machine.shell(&shell.command).await?;
            Failure::from_status(code.into())
        }
        Command::Rm(removal) => remove(&machine, removal.force).await,
    }
}

fn host() -> HostReport {
    HostReport::gather(&Directories::of_this_user().runtime)
}

fn init(machine: &Machine, size: &Size) -> CommandResult {
    let options = MachineOptions {
        memory_mib: size.memory,
        cpus: size.cpus,
        disk_gib: size.disk,
    };
    let config = machine.init(options, &host())?;
    print_line(&format!(
        "the helper VM has {} CPUs, {} MiB of memory and a disk of {} GiB at {}",
        config.cpus,
        config.memory_mib,
        config.disk_gib,
        machine.dirs().disk().display()
    ))?;
    Ok(())
}

async fn start(machine: &Machine) -> CommandResult {
    let mut say = |line: &str| complain(line);
    let status = machine.ensure_running(&host(), &mut say).await?;
    print_line(&format!(
        "the helper VM runs; the API is at unix://{}",
        status.api_socket.display()
    ))?;
    Ok(())
}

/// Exit code 1 says that it does not run.
fn status(report: &MachineReport) -> CommandResult {
    let mut lines: Vec<(&str, String)> = Vec::new();
    match &report.running {
        Some(running) => {
            lines.push(("State", format!("running for {} s", running.uptime_seconds)));
            lines.push(("Accelerator", running.accelerator.to_string()));
            lines.push(("CPUs", running.cpus.to_string()));
            lines.push(("Memory", format!("{} MiB", running.memory_mib)));
            lines.push(("Network", NETWORK.to_owned()));
            lines.push(("API socket", running.api_socket.display().to_string()));
            lines.push((
                "Processes",
                format!("supervisor {}, QEMU {}", running.pid, running.qemu_pid),
            ));
            if report.outdated {
                let hint = "outdated: hull was built or installed anew since it started; it is restarted once nothing runs in it, `hull machine stop` does so now";
                lines.push(("Image", hint.to_owned()));
            }
        }
        None => lines.push(("State", "stopped".to_owned())),
    }
    if let Some(disk) = &report.disk {
        let size = |bytes: u64| binary_size(i64::try_from(bytes).unwrap_or(i64::MAX));
        lines.push((
            "Disk",
            format!(
                "{}, {} used of {}",
                disk.path.display(),
                size(disk.used),
                size(disk.size)
            ),
        ));
    }
    let text: String = lines
        .iter()
        .map(|(name, value)| format!("{:13}{value}\n", format!("{name}:")))
        .collect();
    print(&text)?;
    if report.running.is_some() {
        Ok(())
    } else {
        Err(Failure::silent(1))
    }
}

async fn remove(machine: &Machine, force: bool) -> CommandResult {
    if !force && machine.report().await?.running.is_some() {
        return Err(Failure::new(
            1,
            anyhow::anyhow!(
                "the helper VM is running; stop it first with `hull machine stop`, or use --force"
            ),
        ));
    }
    match machine.rm().await? {
        true => print_line("the helper VM and its disk are removed")?,
        false => print_line("there is no helper VM")?,
    }
    Ok(())
}
