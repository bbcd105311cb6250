//! `hull manifest`

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::print;
use crate::api::{Client, Content, Target};
use crate::credentials;
use crate::failure::CommandResult;
use crate::format::indented_by;

#[derive(Debug, Args)]
#[command(override_usage = "hull manifest COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Display an image manifest, or manifest list, of a registry
    Inspect(InspectArguments),
}

#[derive(Debug, Args)]
#[command(override_usage = "hull manifest inspect [OPTIONS] MANIFEST")]
struct InspectArguments {
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,

    /// Its name in a registry
    #[arg(value_name = "MANIFEST")]
    name: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let Command::Inspect(arguments) = arguments.command;
    let target = Target::new(&["hull", "manifest"])
        .query("name", &arguments.name)
        .flag("verbose", arguments.verbose);
    let content = Content::default().with_registry_auth(&credentials::auth_header(&arguments.name)?);
    let response = client.begin_with(Method::GET, target, content).await?;
    Ok(print(&layout(&response.body().await?)?)?)
}

/// The JSON with Docker's indentation: three blanks for a list of platforms, else a tab.
fn layout(json: &[u8]) -> anyhow::Result<String> {
    // Only that it is JSON, and whether it is a list, is asked; order and numbers stay as they came.
    let value: Value = serde_json::from_slice(json)?;
    let is_list = value.get("manifests").is_some();
    let text = std::str::from_utf8(json)?.trim();
    Ok(indented_by(text, if is_list { "   " } else { "\t" }) + "\n")
}
