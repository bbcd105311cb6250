//! `hull pause` and `hull unpause`

use clap::Args;

use super::for_each;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull pause CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `hull unpause`
#[derive(Debug, Args)]
#[command(override_usage = "hull unpause CONTAINER [CONTAINER...]")]
pub(crate) struct UnpauseArguments {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    ask(client, &arguments.containers, "pause").await
}

pub(crate) async fn unpause(client: &Client, arguments: UnpauseArguments) -> CommandResult {
    ask(client, &arguments.containers, "unpause").await
}

async fn ask(client: &Client, containers: &[String], action: &str) -> CommandResult {
    for_each(containers, async |name| {
        client
            .post_empty(Target::new(&["containers", name, action]))
            .await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
