//! `hull network`

mod connect;
mod create;
mod list;

use clap::{Args, Subcommand};

use super::{for_each, inspect, prune};
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull network COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect a container to a network
    Connect(connect::ConnectArguments),
    /// Create a network
    Create(create::Arguments),
    /// Disconnect a container from a network
    Disconnect(connect::DisconnectArguments),
    /// Display detailed information on one or more networks
    Inspect(inspect::NetworkArguments),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(list::Arguments),
    /// Remove all unused networks
    Prune(prune::NetworkArguments),
    /// Remove one or more networks
    #[command(visible_alias = "remove")]
    Rm(RemoveArguments),
}

#[derive(Debug, Args)]
#[command(override_usage = "hull network rm [OPTIONS] NETWORK [NETWORK...]")]
struct RemoveArguments {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,

    /// Names or IDs
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    match arguments.command {
        Command::Connect(arguments) => connect::connect(client, arguments).await,
        Command::Create(arguments) => create::execute(client, arguments).await,
        Command::Disconnect(arguments) => connect::disconnect(client, arguments).await,
        Command::Inspect(arguments) => inspect::execute(client, arguments.into()).await,
        Command::Ls(arguments) => list::execute(client, arguments).await,
        Command::Prune(arguments) => prune::networks(client, arguments).await,
        Command::Rm(arguments) => remove(client, arguments).await,
    }
}

async fn remove(client: &Client, arguments: RemoveArguments) -> CommandResult {
    for_each(&arguments.names, async |name| {
        match client.delete(Target::new(&["networks", name])).await {
            Err(error) if arguments.force && error.is_not_found() => Ok(None),
            result => result.map(|()| Some(name.to_owned())),
        }
    })
    .await
}
