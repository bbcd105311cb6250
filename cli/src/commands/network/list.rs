//! `hull network ls`

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;

use crate::api::{Client, Target};
use crate::commands::filters::{self, Filter};
use crate::commands::print;
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, short_id};

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

const HEADERS: [(&str, &str); 9] = [
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("ID", "NETWORK ID"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Name", "NAME"),
    ("Scope", "SCOPE"),
];

#[derive(Debug, Args)]
#[command(override_usage = "hull network ls [OPTIONS]")]
pub(super) struct Arguments {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,

    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

/// A network as the daemon tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    name: String,
    id: String,
    created: String,
    scope: String,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    internal: bool,
    labels: Option<BTreeMap<String, String>>,
}

pub(super) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let format = ListFormat::parse(arguments.format.as_deref(), TABLE, arguments.quiet)?;
    let filters = filters::parameter(&arguments.filter);
    let target = Target::new(&["networks"]).option("filters", filters.as_deref());
    let mut networks: Vec<Network> = client.get(target).await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<Row> = networks
        .iter()
        .map(|network| row(network, !arguments.no_trunc))
        .collect();
    Ok(print(&format.render(&HEADERS, &rows)?)?)
}

fn row(network: &Network, truncate: bool) -> Row {
    let labels = network.labels.iter().flatten();
    let words: Vec<String> = labels
        .clone()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let id = match truncate {
        true => short_id(&network.id).to_owned(),
        false => network.id.clone(),
    };
    Row::new(
        [
            ("CreatedAt", network.created.clone()),
            ("Driver", network.driver.clone()),
            ("ID", id),
            ("IPv4", network.enable_ipv4.to_string()),
            ("IPv6", network.enable_ipv6.to_string()),
            ("Internal", network.internal.to_string()),
            ("Labels", words.join(",")),
            ("Name", network.name.clone()),
            ("Scope", network.scope.clone()),
        ]
        .map(|(name, value)| (name, value.into())),
    )
    .with_labels(labels)
}
