//! `hull export`

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::archive_file::deliver;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull export [OPTIONS] CONTAINER")]
pub(crate) struct Arguments {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let target = Target::new(&["containers", &arguments.container, "export"]);
    let ask = client.begin(Method::GET, target);
    deliver(ask, arguments.output.as_deref(), "failed to export container").await?;
    Ok(())
}
