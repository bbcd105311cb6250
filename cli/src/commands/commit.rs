//! `hull commit`

use clap::{ArgAction, Args};
use serde::Deserialize;

use super::print_line;
use crate::api::{Client, Target};
use crate::credentials::RemoteName;
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]")]
pub(crate) struct Arguments {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,

    /// Apply a Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,

    /// Commit message
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Pause container during commit (default true)
    #[arg(
        short,
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pause: bool,

    /// Do not pause the container during commit
    #[arg(long, conflicts_with = "pause")]
    no_pause: bool,

    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

#[derive(Deserialize)]
struct Committed {
    #[serde(rename = "Id")]
    id: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let pause = arguments.pause && !arguments.no_pause;
    let mut target = Target::new(&["commit"])
        .query("container", &arguments.container)
        .option("author", arguments.author.as_deref())
        .option("comment", arguments.message.as_deref())
        .query("pause", if pause { "1" } else { "0" });
    if let Some(reference) = &arguments.reference {
        let (repository, tag) = RemoteName::split(reference);
        target = target.query("repo", repository).option("tag", tag);
    }
    let changes = arguments.change.iter();
    let target = changes.fold(target, |target, change| target.query("changes", change));
    let committed: Committed = client.post_for(target).await?;
    Ok(print_line(&committed.id)?)
}
