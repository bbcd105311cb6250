//! `hull save`

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::archive_file::deliver;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull save [OPTIONS] IMAGE [IMAGE...]")]
pub(crate) struct Arguments {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let images = arguments.images.iter();
    let target = images.fold(Target::new(&["images", "get"]), |target, image| {
        target.query("names", image)
    });
    let ask = client.begin(Method::GET, target);
    deliver(ask, arguments.output.as_deref(), "failed to save image").await?;
    Ok(())
}
