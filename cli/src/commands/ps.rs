//! `hull ps`

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{ContainerSummary, MountPoint};
use clap::Args;

use super::filters::{self, Filter};
use super::{open_ports, print};
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, ago, decimal_size, ellipsis, go_quote, local_time, short_id};
use crate::time;

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const HEADERS: [(&str, &str); 15] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Size", "SIZE"),
];

const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

#[derive(Debug, Args)]
#[command(override_usage = "hull ps [OPTIONS]")]
pub(crate) struct Arguments {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,

    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<u32>,

    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,

    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,

    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,

    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let table = match arguments.size {
        true => format!("{TABLE}\t{{{{.Size}}}}"),
        false => TABLE.to_owned(),
    };
    let format = ListFormat::parse(arguments.format.as_deref(), &table, arguments.quiet)?;
    // A template that asks for sizes asks the daemon for them.
    let asks_for_size = |format: &String| format.contains(".Size");
    let size = arguments.size || arguments.format.as_ref().is_some_and(asks_for_size);
    let limit = if arguments.latest { Some(1) } else { arguments.last };
    let target = Target::new(&["containers", "json"])
        .flag("all", arguments.all)
        .flag("size", size)
        .option("limit", limit.map(|limit| limit.to_string()).as_deref())
        .option("filters", filters::parameter(&arguments.filter).as_deref());
    let containers: Vec<ContainerSummary> = client.get(target).await?;
    let now = time::now();
    let rows: Vec<Row> = containers
        .into_iter()
        .map(|container| row(container, !arguments.no_trunc, now))
        .collect();
    print(&format.render(&HEADERS, &rows)?)?;
    Ok(())
}

fn row(container: ContainerSummary, truncate: bool, now: i64) -> Row {
    let id = container.id.unwrap_or_default();
    let command = container.command.unwrap_or_default();
    let command = if truncate {
        ellipsis(&command, COMMAND_WIDTH)
    } else {
        command
    };
    let created = container.created.unwrap_or_default();
    let labels: BTreeMap<String, String> = container.labels.unwrap_or_default().into_iter().collect();
    let names = container.names.unwrap_or_default();
    let networks = container.network_settings.and_then(|settings| settings.networks);
    let mounts = container.mounts.unwrap_or_default();
    let image = image(
        container.image.unwrap_or_default(),
        &container.image_id.unwrap_or_default(),
        truncate,
    );
    let platform = container
        .image_manifest_descriptor
        .and_then(|descriptor| descriptor.platform);
    Row::new([
        ("ID", if truncate { short_id(&id).into() } else { id.into() }),
        ("Image", image.into()),
        ("Command", go_quote(&command).into()),
        ("CreatedAt", local_time(created).into()),
        ("RunningFor", ago(created, now).into()),
        ("Status", container.status.unwrap_or_default().into()),
        (
            "State",
            container
                .state
                .map(|state| state.to_string())
                .unwrap_or_default()
                .into(),
        ),
        (
            "Ports",
            open_ports::joined(container.ports.unwrap_or_default()).into(),
        ),
        ("Names", joined_names(&names, truncate).into()),
        ("Labels", joined_labels(&labels).into()),
        ("LocalVolumes", local_volumes(&mounts).into()),
        ("Mounts", joined_mounts(&mounts, truncate).into()),
        ("Networks", joined_networks(networks.unwrap_or_default()).into()),
        ("Platform", serde_json::to_value(platform).unwrap_or_default()),
        ("Size", size(container.size_rw, container.size_root_fs).into()),
    ])
    .with_labels(&labels)
}

/// What a container has written, and with its image.
fn size(written: Option<i64>, root: Option<i64>) -> String {
    let written = decimal_size(written.unwrap_or_default());
    match root {
        Some(root) if root > 0 => format!("{written} (virtual {})", decimal_size(root)),
        _ => written,
    }
}

/// The name it was created from; what of an ID fits into the column when the name is an ID.
fn image(name: String, id: &str, truncate: bool) -> String {
    if name.is_empty() {
        return "<no image>".to_owned();
    }
    if truncate && !id.is_empty() && short_id(&name) == short_id(id) {
        return short_id(id).to_owned();
    }
    match name.split_once('@') {
        // A name with a tag needs no digest to be recognized.
        Some((tagged, _)) if truncate && tagged.rsplit('/').next().is_some_and(|last| last.contains(':')) => {
            tagged.to_owned()
        }
        _ => name,
    }
}

/// Without the slash that the API puts in front, and without the names that links give.
fn joined_names(names: &[String], truncate: bool) -> String {
    let stripped = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    let own: Vec<&str> = stripped.filter(|name| !truncate || !name.contains('/')).collect();
    own.join(",")
}

fn joined_labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(",")
}

fn local_volumes(mounts: &[MountPoint]) -> String {
    let local = mounts
        .iter()
        .filter(|mount| mount.driver.as_deref() == Some("local"));
    local.count().to_string()
}

fn joined_mounts(mounts: &[MountPoint], truncate: bool) -> String {
    let names: Vec<String> = mounts
        .iter()
        .map(|mount| {
            let name = mount
                .name
                .as_ref()
                .filter(|name| !name.is_empty())
                .or(mount.source.as_ref());
            let name = name.map_or("", String::as_str);
            if truncate {
                ellipsis(name, MOUNT_WIDTH)
            } else {
                name.to_owned()
            }
        })
        .collect();
    names.join(",")
}

fn joined_networks<T>(networks: HashMap<String, T>) -> String {
    let mut names: Vec<String> = networks.into_keys().collect();
    names.sort_unstable();
    names.join(",")
}
