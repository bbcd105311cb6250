//! `hull run`

use clap::Args;

use super::container_spec::{ContainerOptions, print_id, start_failure};
use super::foreground::{Foreground, SignalOptions, check_terminal};
use crate::api::{Client, Target};
use crate::failure::{CommandResult, Failure, OWN_FAILURE};
use crate::stream::DetachKeys;

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "hull run [OPTIONS] IMAGE [COMMAND] [ARG...]"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    container: ContainerOptions,

    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,

    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: DetachKeys,

    #[command(flatten)]
    signals: SignalOptions,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let Arguments {
        container,
        detach,
        detach_keys,
        signals,
    } = arguments;
    let streams = container
        .streams(detach)
        .map_err(|error| Failure::new(OWN_FAILURE, error))?;
    check_terminal(container.tty, streams.stdin)?;
    let id = container.create(client, streams).await?;
    if detach {
        let start = client
            .post_empty(Target::new(&["containers", &id, "start"]))
            .await;
        start.map_err(|error| start_failure(&error))?;
        return print_id(&id);
    }
    Foreground {
        client,
        id: &id,
        tty: container.tty,
        streams,
        detach_keys,
        sig_proxy: signals.sig_proxy,
        auto_remove: container.rm,
    }
    .run()
    .await
}
