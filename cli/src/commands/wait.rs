//! `hull wait`

use bollard_stubs::models::ContainerWaitResponse;
use clap::Args;

use super::for_each;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull wait CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    for_each(&arguments.containers, async |name| {
        let target = Target::new(&["containers", name, "wait"]);
        let exit: ContainerWaitResponse = client.post_for(target).await?;
        Ok(Some(exit.status_code.to_string()))
    })
    .await
}
