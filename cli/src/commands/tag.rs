//! `hull tag`

use clap::Args;

use crate::api::{Client, Target};
use crate::credentials::RemoteName;
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]")]
pub(crate) struct Arguments {
    /// Name or ID of the image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,

    /// Its further name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let (repository, tag) = RemoteName::split(&arguments.target);
    let target = Target::new(&["images", &arguments.source, "tag"])
        .query("repo", repository)
        .query("tag", tag.unwrap_or("latest"));
    Ok(client.post_empty(target).await?)
}
