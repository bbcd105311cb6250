//! `hull builder`: builds and their cache under one name.

use clap::{Args, Subcommand};

use super::{build, build_cache};
use crate::api::Client;
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull builder COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::Arguments>),
    /// Show the build cache and the space it takes
    #[command(visible_alias = "df")]
    Du(build_cache::UsageArguments),
    /// Remove build cache
    Prune(build_cache::PruneArguments),
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    match arguments.command {
        Command::Build(arguments) => build::execute(client, *arguments).await,
        Command::Du(arguments) => build_cache::usage(client, arguments).await,
        Command::Prune(arguments) => build_cache::prune(client, arguments).await,
    }
}
