//! `hull logs`

use std::io::Write;

use clap::Args;
use hyper::Method;

use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::stream::{Channel, Demux, Descriptor};
use crate::time;

/// The media type of a stream that is cut into pieces for output and error (API 1.42 and later).
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

#[derive(Debug, Args)]
#[command(override_usage = "hull logs [OPTIONS] CONTAINER")]
pub(crate) struct Arguments {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,

    /// Follow log output
    #[arg(short, long)]
    follow: bool,

    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Number of lines to show from the end of the logs
    #[arg(
        short = 'n',
        long,
        value_name = "LINES",
        default_value = "all",
        allow_hyphen_values = true
    )]
    tail: String,

    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,

    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let since = arguments.since.as_deref().map(time::api_time).transpose()?;
    let until = arguments.until.as_deref().map(time::api_time).transpose()?;
    let target = Target::new(&["containers", &arguments.container, "logs"])
        .flag("stdout", true)
        .flag("stderr", true)
        .flag("details", arguments.details)
        .flag("follow", arguments.follow)
        .flag("timestamps", arguments.timestamps)
        .query("tail", &arguments.tail)
        .option("since", since.as_deref())
        .option("until", until.as_deref());
    let mut logs = client.begin(Method::GET, target).await?;
    let multiplexed = logs.content_type() == MULTIPLEXED;
    let (mut stdout, mut stderr) = (Descriptor::stdout()?, Descriptor::stderr()?);
    let mut demux = Demux::default();
    // A slow reader holds up these writes, thereby the reads, and so the daemon.
    while let Some(bytes) = logs.chunk().await? {
        if multiplexed {
            demux.push(&bytes, |channel, payload| match channel {
                Channel::Stdout => stdout.write_all(payload),
                Channel::Stderr => stderr.write_all(payload),
            })?;
        } else {
            stdout.write_all(&bytes)?;
        }
    }
    Ok(())
}
