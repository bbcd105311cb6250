//! `hull rm`

use clap::Args;

use super::{for_each, removed};
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull rm [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,

    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,

    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    for_each(&arguments.containers, async |name| {
        let target = Target::new(&["containers", name])
            .flag("force", arguments.force)
            .flag("v", arguments.volumes);
        removed(name, arguments.force, client.delete(target).await)
    })
    .await
}
