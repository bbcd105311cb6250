//! `hull rename`

use clap::Args;

use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull rename CONTAINER NEW_NAME")]
pub(crate) struct Arguments {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The name it gets
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let target = Target::new(&["containers", &arguments.container, "rename"]).query("name", &arguments.name);
    client.post_empty(target).await?;
    Ok(())
}
