//! The command line.

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::commands;
use crate::failure::OWN_FAILURE;

/// Runs every container in its own microVM, with Docker's workflow.
#[derive(Debug, Parser)]
#[command(
    name = "hull",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    override_usage = "hull [OPTIONS] COMMAND",
    max_term_width = 100
)]
pub(crate) struct Arguments {
    /// Daemon socket to connect to (default: the one of this user, started when it is not there)
    #[arg(short = 'H', long, value_name = "unix://PATH")]
    pub(crate) host: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create and run a new container from an image
    Run(Box<commands::run::Arguments>),
    /// Create a new container
    Create(Box<commands::create::Arguments>),
    /// Start one or more stopped containers
    Start(commands::start::Arguments),
    /// List containers
    Ps(commands::ps::Arguments),
    /// Fetch the logs of a container
    Logs(commands::logs::Arguments),
    /// Execute a command in a running container
    Exec(commands::exec::Arguments),
    /// Attach local standard input, output, and error streams to a running container
    Attach(commands::attach::Arguments),
    /// Stop one or more running containers
    Stop(commands::stop::Arguments),
    /// Kill one or more running containers
    Kill(commands::kill::Arguments),
    /// Remove one or more containers
    Rm(commands::rm::Arguments),
    /// Return low-level information on containers and images
    Inspect(commands::inspect::Arguments),
    /// List images
    Images(commands::images::Arguments),
    /// Block until one or more containers stop, then print their exit codes
    Wait(commands::wait::Arguments),
    /// Show the hull version information
    Version(commands::version::Arguments),
    /// Display system-wide information
    Info(commands::info::Arguments),
    /// Say what this host offers to microVMs, what hull makes of it, and what would help
    Doctor(commands::doctor::Arguments),
    /// Manage the helper VM, for hosts that cannot run microVMs themselves
    Machine(commands::machine::Arguments),
}

/// Prints what is wrong with the command line, or the help it asks for; the exit code.
pub(crate) fn refuse(error: &clap::Error) -> u8 {
    // Standard output may be closed; there is nothing to do about it.
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        ErrorKind::MissingRequiredArgument | ErrorKind::InvalidSubcommand | ErrorKind::MissingSubcommand => 1,
        _ => OWN_FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }
}
