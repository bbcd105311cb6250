//! `hull kill`

use clap::Args;

use super::for_each;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull kill [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    /// Signal to send to the container
    #[arg(short, long, default_value = "KILL")]
    signal: String,

    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    for_each(&arguments.containers, async |name| {
        let target = Target::new(&["containers", name, "kill"]).query("signal", &arguments.signal);
        client.post_empty(target).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
