//! `hull attach`

use anyhow::{anyhow, bail};
use bollard_stubs::models::{ContainerInspectResponse, ContainerState};
use clap::Args;
use hyper::Method;

use super::foreground::{SignalOptions, check_terminal, exit_status};
use crate::api::{Client, Target};
use crate::failure::{CommandResult, Failure};
use crate::signals::{Recipient, Relay, Resize};
use crate::stream::{DetachKeys, End, Session, SessionSpec};
use crate::terminal::{self, RawMode, WindowSize};

#[derive(Debug, Args)]
#[command(override_usage = "hull attach [OPTIONS] CONTAINER")]
pub(crate) struct Arguments {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: DetachKeys,

    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,

    #[command(flatten)]
    signals: SignalOptions,

    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let name = &arguments.container;
    let container: ContainerInspectResponse = client.get(Target::new(&["containers", name, "json"])).await?;
    check_running(container.state.unwrap_or_default())?;
    let config = container.config.unwrap_or_default();
    let tty = config.tty.unwrap_or(false);
    let stdin = !arguments.no_stdin && config.open_stdin.unwrap_or(false);
    check_terminal(tty, stdin)?;
    let id = container.id.as_deref().unwrap_or(name);

    let target = Target::new(&["containers", id, "attach"])
        .flag("stream", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stderr", true)
        .query("detachKeys", arguments.detach_keys.as_str());
    let no_body: Option<&()> = None;
    let wait = Target::new(&["containers", id, "wait"]).query("condition", "not-running");
    let (stream, exit) = tokio::try_join!(client.hijack(target, no_body), client.begin(Method::POST, wait))?;
    let recipient = match (tty, arguments.signals.sig_proxy) {
        (true, _) => Recipient::Terminal(Resize::Container(id)),
        (false, true) => Recipient::Container(id),
        (false, false) => Recipient::Nobody,
    };
    let mut relay = Relay::new(client, recipient)?;
    let raw_mode = if tty && stdin {
        Some(RawMode::enter()?)
    } else {
        None
    };
    let session = Session::start(
        stream,
        SessionSpec {
            tty,
            stdin,
            detach_keys: arguments.detach_keys.clone(),
        },
    )?;
    if tty {
        redraw(client, id).await;
    }
    if relay.during(session.end()).await?? == End::Detached {
        drop(raw_mode);
        return Err(Failure::new(1, anyhow!("read escape sequence")));
    }
    let status = relay.during(exit_status(exit)).await?;
    drop(raw_mode);
    Failure::from_status(status?)
}

fn check_running(state: ContainerState) -> anyhow::Result<()> {
    if !state.running.unwrap_or(false) {
        bail!("cannot attach to a stopped container, start it first");
    }
    if state.paused.unwrap_or(false) {
        bail!("cannot attach to a paused container, unpause it first");
    }
    Ok(())
}

/// A change of size makes full-screen programs and shells draw themselves again.
async fn redraw(client: &Client, id: &str) {
    let Some(size) = terminal::window_size() else {
        return;
    };
    let taller = WindowSize {
        rows: size.rows.saturating_add(1),
        ..size
    };
    Resize::Container(id).to(client, taller).await;
    Resize::Container(id).to(client, size).await;
}
