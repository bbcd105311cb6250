//! `hull volume`

use std::collections::HashMap;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::filters::{self, Filter};
use super::{for_each, inspect, pairs, print, print_line, prune, removed};
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row};

const TABLE: &str = "{{.Driver}}\t{{.Name}}";

const HEADERS: [(&str, &str); 10] = [
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Group", "GROUP"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
];

const NOT_KNOWN: &str = "N/A";

#[derive(Debug, Args)]
#[command(override_usage = "hull volume COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a volume
    Create(CreateArguments),
    /// Display detailed information on one or more volumes
    Inspect(inspect::VolumeArguments),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ListArguments),
    /// Remove unused local volumes
    Prune(prune::VolumeArguments),
    /// Remove one or more volumes
    #[command(visible_alias = "remove")]
    Rm(RemoveArguments),
}

#[derive(Debug, Args)]
#[command(override_usage = "hull volume create [OPTIONS] [VOLUME]")]
struct CreateArguments {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local", hide_default_value = true)]
    driver: String,

    /// Set metadata for a volume
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,

    /// Set driver specific options
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    opt: Vec<String>,

    /// Its name; without one it has a name made up
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull volume ls [OPTIONS]")]
struct ListArguments {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull volume rm [OPTIONS] VOLUME [VOLUME...]")]
struct RemoveArguments {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,

    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateBody {
    name: Option<String>,
    driver: String,
    driver_opts: HashMap<String, String>,
    labels: HashMap<String, String>,
}

/// A volume as the daemon tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Volume {
    pub(super) name: String,
    driver: String,
    mountpoint: String,
    scope: String,
    labels: Option<HashMap<String, String>>,
    pub(super) usage_data: Option<Usage>,
}

/// What a volume takes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Usage {
    pub(super) ref_count: i64,
    pub(super) size: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    volumes: Option<Vec<Volume>>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    match arguments.command {
        Command::Create(arguments) => create(client, arguments).await,
        Command::Inspect(arguments) => inspect::execute(client, arguments.into()).await,
        Command::Ls(arguments) => list(client, arguments).await,
        Command::Prune(arguments) => prune::volumes(client, arguments).await,
        Command::Rm(arguments) => remove(client, arguments).await,
    }
}

async fn create(client: &Client, arguments: CreateArguments) -> CommandResult {
    let body = CreateBody {
        name: arguments.name,
        driver: arguments.driver,
        driver_opts: pairs(&arguments.opt),
        labels: pairs(&arguments.label),
    };
    let volume: Volume = client.post(Target::new(&["volumes", "create"]), &body).await?;
    Ok(print_line(&volume.name)?)
}

async fn list(client: &Client, arguments: ListArguments) -> CommandResult {
    let names_only = arguments.quiet && matches!(arguments.format.as_deref(), None | Some("table"));
    let format = if names_only {
        Some("{{.Name}}")
    } else {
        arguments.format.as_deref()
    };
    let format = ListFormat::parse(format, TABLE, false)?;
    let target =
        Target::new(&["volumes"]).option("filters", filters::parameter(&arguments.filter).as_deref());
    let listed: Listed = client.get(target).await?;
    let mut volumes = listed.volumes.unwrap_or_default();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<Row> = volumes.iter().map(row).collect();
    Ok(print(&format.render(&HEADERS, &rows)?)?)
}

fn row(volume: &Volume) -> Row {
    let labels = volume.labels.iter().flatten();
    let mut words: Vec<String> = labels
        .clone()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.sort();
    Row::new(
        [
            ("Availability", NOT_KNOWN.to_owned()),
            ("Driver", volume.driver.clone()),
            ("Group", NOT_KNOWN.to_owned()),
            ("Labels", words.join(",")),
            ("Links", NOT_KNOWN.to_owned()),
            ("Mountpoint", volume.mountpoint.clone()),
            ("Name", volume.name.clone()),
            ("Scope", volume.scope.clone()),
            ("Size", NOT_KNOWN.to_owned()),
            ("Status", NOT_KNOWN.to_owned()),
        ]
        .map(|(name, value)| (name, value.into())),
    )
    .with_labels(labels)
}

async fn remove(client: &Client, arguments: RemoveArguments) -> CommandResult {
    for_each(&arguments.names, async |name| {
        let target = Target::new(&["volumes", name]).flag("force", arguments.force);
        removed(name, arguments.force, client.delete(target).await)
    })
    .await
}
