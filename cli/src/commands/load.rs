//! `hull load`

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use hyper::Method;

use super::platform::Platform;
use crate::api::{Client, Content, Target};
use crate::failure::CommandResult;
use crate::progress::{self, Show, Stream};
use crate::{stream, terminal};

#[derive(Debug, Args)]
#[command(override_usage = "hull load [OPTIONS]")]
pub(crate) struct Arguments {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Load only the image for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let file = match &arguments.input {
        Some(path) => File::open(path).with_context(|| format!("cannot open {}", path.display()))?,
        None if terminal::stdin_is_terminal() => {
            return Err(anyhow::anyhow!("requested load from stdin, but stdin is empty").into());
        }
        None => stream::stdin_file()?,
    };
    // How far layers are is for terminals alone.
    let quiet = arguments.quiet || !terminal::stdout_is_terminal();
    let platform = arguments.platform.map(|platform| platform.json());
    let target = Target::new(&["images", "load"])
        .query("quiet", if quiet { "1" } else { "0" })
        .option("platform", platform.as_deref());
    let response = client
        .begin_with(Method::POST, target, Content::archive(file))
        .await?;
    progress::follow(response, Show::All(Stream::Output)).await?;
    Ok(())
}
