//! `hull import`

use std::fs::File;

use anyhow::Context;
use clap::Args;
use hyper::Method;

use crate::api::{Client, Content, Target};
use crate::credentials::RemoteName;
use crate::failure::CommandResult;
use crate::progress::{self, Show, Stream};
use crate::stream;

#[derive(Debug, Args)]
#[command(override_usage = "hull import [OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]")]
pub(crate) struct Arguments {
    /// Apply a Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,

    /// Set commit message for imported image
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// The platform that the image is for, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,

    /// The archive: a file, the URL of one that the daemon downloads, or '-' for STDIN
    #[arg(value_name = "FILE|URL|-")]
    source: String,

    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let source = arguments.source.as_str();
    let (named, content) = match source {
        "-" => ("-", Content::archive(stream::stdin_file()?)),
        url if url.starts_with("http://") || url.starts_with("https://") => (url, Content::default()),
        path => {
            let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
            ("-", Content::archive(file))
        }
    };
    let mut target = Target::new(&["images", "create"])
        .query("fromSrc", named)
        .option("message", arguments.message.as_deref())
        .option("platform", arguments.platform.as_deref());
    if let Some(reference) = &arguments.reference {
        let (repository, tag) = RemoteName::split(reference);
        target = target.query("repo", repository).option("tag", tag);
    }
    let target = arguments
        .change
        .iter()
        .fold(target, |target, change| target.query("changes", change));
    let response = client.begin_with(Method::POST, target, content).await?;
    progress::follow(response, Show::All(Stream::Output)).await?;
    Ok(())
}
