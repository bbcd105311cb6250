//! `hull create`

use clap::Args;

use super::container_spec::{ContainerOptions, print_id};
use crate::api::Client;
use crate::failure::{CommandResult, Failure, OWN_FAILURE};

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "hull create [OPTIONS] IMAGE [COMMAND] [ARG...]"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    container: ContainerOptions,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let streams = arguments
        .container
        .streams(false)
        .map_err(|error| Failure::new(OWN_FAILURE, error))?;
    let id = arguments.container.create(client, streams).await?;
    print_id(&id)
}
