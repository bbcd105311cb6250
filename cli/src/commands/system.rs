//! `hull system`

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::{disk_usage, events, info, print, prune};
use crate::api::{Client, Target};
use crate::failure::{CommandResult, Failure};
use crate::format::decimal_size;

#[derive(Debug, Args)]
#[command(override_usage = "hull system COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look for damage in the image store, and take out what is damaged
    Check(CheckArguments),
    /// Show disk usage
    Df(disk_usage::Arguments),
    /// Get real time events from the server
    Events(events::Arguments),
    /// Display system-wide information
    Info(info::Arguments),
    /// Remove unused data
    Prune(prune::SystemArguments),
}

/// Reads every image's files and compares them with their digests. What is damaged is taken out of the
/// store, so that pulling or loading its image again heals it.
#[derive(Debug, Args)]
#[command(override_usage = "hull system check [OPTIONS]")]
struct CheckArguments {
    /// Only say whether there is damage, by the exit code
    #[arg(short, long)]
    quiet: bool,
}

/// What the daemon found.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckReport {
    images: u64,
    blobs: u64,
    layers: u64,
    bytes: i64,
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Problem {
    object: String,
    what: String,
    images: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    match arguments.command {
        Command::Check(arguments) => check(client, arguments).await,
        Command::Df(arguments) => disk_usage::execute(client, arguments).await,
        Command::Events(arguments) => events::execute(client, arguments).await,
        Command::Info(arguments) => info::execute(client, arguments).await,
        Command::Prune(arguments) => prune::system(client, arguments).await,
    }
}

async fn check(client: &Client, arguments: CheckArguments) -> CommandResult {
    let report: CheckReport = client.post_for(Target::new(&["hull", "system", "check"])).await?;
    if !arguments.quiet {
        print(&describe(&report))?;
    }
    if report.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::silent(1))
    }
}

fn describe(report: &CheckReport) -> String {
    let mut text = format!(
        "Checked {} images, {} blobs and {} layers ({}).\n",
        report.images,
        report.blobs,
        report.layers,
        decimal_size(report.bytes)
    );
    if report.problems.is_empty() {
        text.push_str("No damage was found.\n");
        return text;
    }
    for problem in &report.problems {
        text.push_str(&format!("\ndamaged: {}\n  {}\n", problem.object, problem.what));
        for image in &problem.images {
            text.push_str(&format!("  needed by {image}: pull or load it again\n"));
        }
    }
    let count = match report.problems.len() {
        1 => "1 damaged object was".to_owned(),
        count => format!("{count} damaged objects were"),
    };
    text.push_str(&format!("\n{count} found and taken out of the store.\n"));
    text
}
