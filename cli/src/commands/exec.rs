//! `hull exec`

use std::path::PathBuf;

use bollard_stubs::models::{ExecConfig, ExecInspectResponse, ExecStartConfig, IdResponse};
use clap::Args;

use super::environment;
use super::foreground::check_terminal;
use crate::api::{Client, Target};
use crate::failure::{CommandResult, Failure};
use crate::signals::{Recipient, Relay, Resize};
use crate::stream::{DetachKeys, End, Session, SessionSpec};
use crate::terminal::{self, RawMode};

#[derive(Debug, Args)]
#[command(override_usage = "hull exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct Arguments {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,

    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: DetachKeys,

    /// Set environment variables
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,

    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,

    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    user: Option<String>,

    /// Working directory inside the container
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,

    /// Name or ID of the container, then the command to run in it and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    container_and_command: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let stdin = arguments.interactive && !arguments.detach;
    check_terminal(arguments.tty, stdin)?;
    let size = if arguments.tty {
        terminal::window_size()
    } else {
        None
    };
    let console_size = size.map(|size| vec![size.rows.into(), size.columns.into()]);
    let exec = create(client, &arguments, stdin, console_size.clone()).await?;
    let start = Target::new(&["exec", &exec, "start"]);
    let config = ExecStartConfig {
        detach: Some(arguments.detach),
        tty: Some(arguments.tty),
        console_size,
    };
    if arguments.detach {
        client.post_only(start, &config).await?;
        return Ok(());
    }
    let stream = client.hijack(start, Some(&config)).await?;
    let recipient = if arguments.tty {
        Recipient::Terminal(Resize::Exec(&exec))
    } else {
        // Signals end the command line only; Docker has no way to signal an exec.
        Recipient::Nobody
    };
    let mut relay = Relay::new(client, recipient)?;
    let raw_mode = if arguments.tty && stdin {
        Some(RawMode::enter()?)
    } else {
        None
    };
    let session = Session::start(
        stream,
        SessionSpec {
            tty: arguments.tty,
            stdin,
            detach_keys: arguments.detach_keys.clone(),
        },
    )?;
    if let Some(size) = size {
        Resize::Exec(&exec).to(client, size).await;
    }
    if relay.during(session.end()).await?? == End::Detached {
        return Ok(());
    }
    drop(raw_mode);
    let ended: ExecInspectResponse = client.get(Target::new(&["exec", &exec, "json"])).await?;
    Failure::from_status(ended.exit_code.unwrap_or(0))
}

async fn create(
    client: &Client,
    arguments: &Arguments,
    stdin: bool,
    console_size: Option<Vec<usize>>,
) -> Result<String, Failure> {
    let (container, command) = match &arguments.container_and_command[..] {
        [container, command @ ..] => (container.as_str(), command),
        [] => ("", &[][..]),
    };
    let config = ExecConfig {
        attach_stdin: Some(stdin),
        attach_stdout: Some(!arguments.detach),
        attach_stderr: Some(!arguments.detach),
        console_size,
        detach_keys: Some(arguments.detach_keys.as_str().to_owned()),
        tty: Some(arguments.tty),
        env: Some(environment::collect(&arguments.env_file, arguments.env.clone())?),
        cmd: Some(command.to_vec()),
        privileged: None,
        user: arguments.user.clone(),
        working_dir: arguments.workdir.clone(),
    };
    let target = Target::new(&["containers", container, "exec"]);
    let created: IdResponse = client.post(target, &config).await?;
    Ok(created.id)
}
