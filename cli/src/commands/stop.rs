//! `hull stop` and `hull restart`

use clap::Args;

use super::for_each;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull stop [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull restart [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct RestartArguments {
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,

    /// Seconds to wait before killing the container
    #[arg(
        short,
        long,
        visible_alias = "time",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    timeout: Option<i64>,

    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    end(client, "stop", arguments.options).await
}

pub(crate) async fn restart(client: &Client, arguments: RestartArguments) -> CommandResult {
    end(client, "restart", arguments.options).await
}

async fn end(client: &Client, verb: &str, options: Options) -> CommandResult {
    let timeout = options.timeout.map(|seconds| seconds.to_string());
    for_each(&options.containers, async |name| {
        let target = Target::new(&["containers", name, verb])
            .option("signal", options.signal.as_deref())
            .option("t", timeout.as_deref());
        client.post_empty(target).await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
