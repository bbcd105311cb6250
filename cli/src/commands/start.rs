//! `hull start`

use anyhow::bail;
use bollard_stubs::models::ContainerInspectResponse;
use clap::Args;

use super::container_spec::AttachedStreams;
use super::for_each;
use super::foreground::{Foreground, check_terminal};
use crate::api::{Client, Target};
use crate::failure::{CommandResult, Failure};
use crate::stream::DetachKeys;

#[derive(Debug, Args)]
#[command(override_usage = "hull start [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,

    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,

    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: DetachKeys,

    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    if arguments.attach || arguments.interactive {
        let only = only(&arguments.containers)?;
        return in_foreground(client, only, &arguments).await;
    }
    for_each(&arguments.containers, async |name| {
        client
            .post_empty(Target::new(&["containers", name, "start"]))
            .await?;
        Ok(Some(name.to_owned()))
    })
    .await
}

fn only(containers: &[String]) -> anyhow::Result<&str> {
    match containers {
        [only] => Ok(only),
        _ => bail!("you cannot start and attach multiple containers at once"),
    }
}

async fn in_foreground(client: &Client, name: &str, arguments: &Arguments) -> CommandResult {
    let container: ContainerInspectResponse = client.get(Target::new(&["containers", name, "json"])).await?;
    let config = container.config.unwrap_or_default();
    let tty = config.tty.unwrap_or(false);
    let stdin = arguments.interactive && config.open_stdin.unwrap_or(false);
    check_terminal(tty, stdin)?;
    let id = container.id.as_deref().unwrap_or(name);
    let host_config = container.host_config.unwrap_or_default();
    let started = Foreground {
        client,
        id,
        tty,
        streams: AttachedStreams {
            stdin,
            stdout: true,
            stderr: true,
        },
        detach_keys: arguments.detach_keys.clone(),
        sig_proxy: arguments.attach,
        auto_remove: host_config.auto_remove.unwrap_or(false),
    };
    started.run().await.map_err(|failure| match failure.error {
        // Only `run` tells a command that cannot be executed from one that is not there.
        Some(_) if failure.code >= 125 && failure.code <= 127 => Failure { code: 1, ..failure },
        _ => failure,
    })
}
