//! The command line.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::api::HostOptions;
use crate::commands;
use crate::failure::{OWN_FAILURE, complain};

/// Runs every container in its own microVM, with Docker's workflow.
#[derive(Debug, Parser)]
#[command(
    name = "hull",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND",
    override_usage = "hull [OPTIONS] COMMAND",
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) host: HostOptions,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create and run a new container from an image
    Run(Box<commands::run::Arguments>),
    /// Execute a command in a running container
    Exec(commands::exec::Arguments),
    /// Build an image from a Dockerfile
    Build(Box<commands::build::Arguments>),
    /// List containers
    Ps(commands::ps::Arguments),
    /// Download an image from a registry
    Pull(commands::pull::Arguments),
    /// Upload an image to a registry
    Push(commands::push::Arguments),
    /// List images
    Images(commands::images::Arguments),
    /// Authenticate to a registry
    Login(commands::login::Arguments),
    /// Log out from a registry
    Logout(commands::logout::Arguments),
    /// Search Docker Hub, or another registry, for images
    Search(commands::search::Arguments),
    /// Show the hull version information
    Version(commands::version::Arguments),
    /// Display system-wide information
    Info(commands::info::Arguments),
    /// Manage builds
    Builder(Box<commands::builder::Arguments>),
    /// Manage containers
    Container(Box<commands::container::Arguments>),
    /// Manage images
    Image(Box<commands::image::Arguments>),
    /// Look at image manifests and manifest lists
    Manifest(commands::manifest::Arguments),
    /// Manage contexts: names for daemons
    Context(commands::context::Arguments),
    /// Manage networks
    Network(commands::network::Arguments),
    /// Manage volumes
    Volume(commands::volume::Arguments),
    /// Manage hull
    System(commands::system::Arguments),
    /// Manage the helper VM, for hosts that cannot run microVMs themselves
    Machine(commands::machine::Arguments),
    /// Say what this host offers to microVMs, what hull makes of it, and what would help
    Doctor(commands::doctor::Arguments),
    /// Attach local standard input, output, and error streams to a running container
    Attach(commands::attach::Arguments),
    /// Create a new image from a container's changes
    Commit(commands::commit::Arguments),
    /// Generate the autocompletion script for the specified shell
    Completion(commands::completion::Arguments),
    /// Copy files/folders between a container and the local filesystem
    Cp(commands::cp::Arguments),
    /// Create a new container
    Create(Box<commands::create::Arguments>),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(commands::diff::Arguments),
    /// Get real time events from the server
    Events(commands::events::Arguments),
    /// Export a container's filesystem as a tar archive
    Export(commands::export::Arguments),
    /// Show the history of an image
    History(commands::history::Arguments),
    /// Import the contents from a tarball to create a filesystem image
    Import(commands::import::Arguments),
    /// Return low-level information on containers and images
    Inspect(commands::inspect::Arguments),
    /// Kill one or more running containers
    Kill(commands::kill::Arguments),
    /// Load an image from a tar archive or STDIN
    Load(commands::load::Arguments),
    /// Fetch the logs of a container
    Logs(commands::logs::Arguments),
    /// Write the manual pages
    #[command(hide = true)]
    Man(commands::completion::ManArguments),
    /// Pause all processes within one or more containers
    Pause(commands::pause::Arguments),
    /// List port mappings or a specific mapping for the container
    Port(commands::port::Arguments),
    /// Rename a container
    Rename(commands::rename::Arguments),
    /// Restart one or more containers
    Restart(commands::stop::RestartArguments),
    /// Remove one or more containers
    Rm(commands::rm::Arguments),
    /// Remove one or more images
    Rmi(commands::rmi::Arguments),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(commands::save::Arguments),
    /// Start one or more stopped containers
    Start(commands::start::Arguments),
    /// Display a live stream of container(s) resource usage statistics
    Stats(commands::stats::Arguments),
    /// Stop one or more running containers
    Stop(commands::stop::Arguments),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(commands::tag::Arguments),
    /// Display the running processes of a container
    Top(commands::top::Arguments),
    /// Unpause all processes within one or more containers
    Unpause(commands::pause::UnpauseArguments),
    /// Update configuration of one or more containers
    Update(commands::update::Arguments),
    /// Block until one or more containers stop, then print their exit codes
    Wait(commands::wait::Arguments),
}

/// Prints what is wrong with the command line, or the help it asks for; the exit code.
pub(crate) fn refuse(error: &clap::Error) -> u8 {
    match complaint(error) {
        Some(complaint) => {
            let usage = error
                .get(ContextKind::Usage)
                .map(ToString::to_string)
                .unwrap_or_default();
            let usage = usage.trim_start_matches("Usage: ").trim_end();
            let command: Vec<&str> = usage.split(' ').take_while(|word| is_command(word)).collect();
            complain(format_args!(
                "{complaint}\n\nUsage:  {usage}\n\nRun '{} --help' for more information",
                command.join(" ")
            ));
        }
        // Standard output may be closed; there is nothing to do about it.
        None => drop(error.print()),
    }
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::TooFewValues
        | ErrorKind::InvalidSubcommand
        | ErrorKind::MissingSubcommand => 1,
        _ => OWN_FAILURE,
    }
}

/// Docker's words for what people get wrong most; the parser's own for the rest.
fn complaint(error: &clap::Error) -> Option<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let argument = context(ContextKind::InvalidArg)?;
            argument
                .starts_with('-')
                .then(|| format!("unknown flag: {argument}"))
        }
        ErrorKind::InvalidSubcommand => {
            let command = context(ContextKind::InvalidSubcommand)?;
            Some(format!("hull: unknown command: {command}"))
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            Some("hull: there are arguments missing".to_owned())
        }
        _ => None,
    }
}

/// Whether a word of a usage line belongs to the command rather than to its arguments.
fn is_command(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase())
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
