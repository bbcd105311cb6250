//! `hull load`

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use hyper::Method;

use crate::api::{Client, Content, Target};
use crate::failure::CommandResult;
use crate::progress::{self, Show};
use crate::{stream, terminal};

#[derive(Debug, Args)]
#[command(override_usage = "hull load [OPTIONS]")]
pub(crate) struct Arguments {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

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
    let target = Target::new(&["images", "load"]).query("quiet", if arguments.quiet { "1" } else { "0" });
    let response = client
        .begin_with(Method::POST, target, Content::archive(file))
        .await?;
    progress::follow(response, Show::Output).await?;
    Ok(())
}
