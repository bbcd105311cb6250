//! `hull container`: the commands for containers under one name.

use clap::{Args, Subcommand};

use super::{
    attach, commit, cp, create, diff, exec, export, inspect, kill, logs, pause, port, prune, ps, rename, rm,
    run, start, stats, stop, top, update, wait,
};
use crate::api::Client;
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull container COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attach local standard input, output, and error streams to a running container
    Attach(attach::Arguments),
    /// Create a new image from a container's changes
    Commit(commit::Arguments),
    /// Copy files/folders between a container and the local filesystem
    Cp(cp::Arguments),
    /// Create a new container
    Create(Box<create::Arguments>),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(diff::Arguments),
    /// Execute a command in a running container
    Exec(exec::Arguments),
    /// Export a container's filesystem as a tar archive
    Export(export::Arguments),
    /// Display detailed information on one or more containers
    Inspect(inspect::ContainerArguments),
    /// Kill one or more running containers
    Kill(kill::Arguments),
    /// Fetch the logs of a container
    Logs(logs::Arguments),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Arguments),
    /// Pause all processes within one or more containers
    Pause(pause::Arguments),
    /// List port mappings or a specific mapping for the container
    Port(port::Arguments),
    /// Remove all stopped containers
    Prune(prune::ContainerArguments),
    /// Rename a container
    Rename(rename::Arguments),
    /// Restart one or more containers
    Restart(stop::RestartArguments),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(rm::Arguments),
    /// Create and run a new container from an image
    Run(Box<run::Arguments>),
    /// Start one or more stopped containers
    Start(start::Arguments),
    /// Display a live stream of container(s) resource usage statistics
    Stats(stats::Arguments),
    /// Stop one or more running containers
    Stop(stop::Arguments),
    /// Display the running processes of a container
    Top(top::Arguments),
    /// Unpause all processes within one or more containers
    Unpause(pause::UnpauseArguments),
    /// Update configuration of one or more containers
    Update(update::Arguments),
    /// Block until one or more containers stop, then print their exit codes
    Wait(wait::Arguments),
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    match arguments.command {
        Command::Attach(arguments) => attach::execute(client, arguments).await,
        Command::Commit(arguments) => commit::execute(client, arguments).await,
        Command::Cp(arguments) => cp::execute(client, arguments).await,
        Command::Create(arguments) => create::execute(client, *arguments).await,
        Command::Diff(arguments) => diff::execute(client, arguments).await,
        Command::Exec(arguments) => exec::execute(client, arguments).await,
        Command::Export(arguments) => export::execute(client, arguments).await,
        Command::Inspect(arguments) => inspect::execute(client, arguments.into()).await,
        Command::Kill(arguments) => kill::execute(client, arguments).await,
        Command::Logs(arguments) => logs::execute(client, arguments).await,
        Command::Ls(arguments) => ps::execute(client, arguments).await,
        Command::Pause(arguments) => pause::execute(client, arguments).await,
        Command::Port(arguments) => port::execute(client, arguments).await,
        Command::Prune(arguments) => prune::containers(client, arguments).await,
        Command::Rename(arguments) => rename::execute(client, arguments).await,
        Command::Restart(arguments) => stop::restart(client, arguments).await,
        Command::Rm(arguments) => rm::execute(client, arguments).await,
        Command::Run(arguments) => run::execute(client, *arguments).await,
        Command::Start(arguments) => start::execute(client, arguments).await,
        Command::Stats(arguments) => stats::execute(client, arguments).await,
        Command::Stop(arguments) => stop::execute(client, arguments).await,
        Command::Top(arguments) => top::execute(client, arguments).await,
        Command::Unpause(arguments) => pause::unpause(client, arguments).await,
        Command::Update(arguments) => update::execute(client, arguments).await,
        Command::Wait(arguments) => wait::execute(client, arguments).await,
    }
}
