//! `hull image`: the commands for images under one name.

use clap::{Args, Subcommand};

use super::{build, history, images, import, inspect, load, prune, pull, push, rmi, save, tag};
use crate::api::Client;
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull image COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::Arguments>),
    /// Show the history of an image
    History(history::Arguments),
    /// Import the contents from a tarball to create a filesystem image
    Import(import::Arguments),
    /// Display detailed information on one or more images
    Inspect(inspect::ImageArguments),
    /// Load an image from a tar archive or STDIN
    Load(load::Arguments),
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Arguments),
    /// Remove unused images
    Prune(prune::ImageArguments),
    /// Download an image from a registry
    Pull(pull::Arguments),
    /// Upload an image to a registry
    Push(push::Arguments),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(rmi::Arguments),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(save::Arguments),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(tag::Arguments),
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    match arguments.command {
        Command::Build(arguments) => build::execute(client, *arguments).await,
        Command::History(arguments) => history::execute(client, arguments).await,
        Command::Import(arguments) => import::execute(client, arguments).await,
        Command::Inspect(arguments) => inspect::execute(client, arguments.into()).await,
        Command::Load(arguments) => load::execute(client, arguments).await,
        Command::Ls(arguments) => images::execute(client, arguments).await,
        Command::Prune(arguments) => prune::images(client, arguments).await,
        Command::Pull(arguments) => pull::execute(client, arguments).await,
        Command::Push(arguments) => push::execute(client, arguments).await,
        Command::Rm(arguments) => rmi::execute(client, arguments).await,
        Command::Save(arguments) => save::execute(client, arguments).await,
        Command::Tag(arguments) => tag::execute(client, arguments).await,
    }
}
