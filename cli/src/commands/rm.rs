//! `hull rm`

use clap::Args;

use super::for_each;
use crate::api::{ApiError, Client, Target};
use crate::failure::{CommandResult, complain};

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
        match client.delete(target).await {
            // What is not there need not be removed, when it is to be gone in any case.
            Err(error @ ApiError::Refused { .. }) if arguments.force && error.is_not_found() => {
                complain(error);
                Ok(None)
            }
            result => result.map(|()| Some(name.to_owned())),
        }
    })
    .await
}
