//! `hull save`

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::archive_file::deliver;
use super::platform::Platform;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull save [OPTIONS] IMAGE [IMAGE...]")]
pub(crate) struct Arguments {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Save the images only if they are for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let images = arguments.images.iter();
    let platform = arguments.platform.map(|platform| platform.json());
    let target = Target::new(&["images", "get"]).option("platform", platform.as_deref());
    let target = images.fold(target, |target, image| target.query("names", image));
    let ask = client.begin(Method::GET, target);
    deliver(ask, arguments.output.as_deref(), "failed to save image").await?;
    Ok(())
}
