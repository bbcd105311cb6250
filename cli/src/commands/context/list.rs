//! `hull context ls` and `inspect`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::endpoint::DEFAULT_DESCRIPTION;
use crate::api::HostOptions;
use crate::commands::print;
use crate::contexts::{DEFAULT, Meta, Store};
use crate::failure::{CommandResult, Failure, complain};
use crate::format::{ListFormat, Row, ellipsis, indented};
use crate::template::Template;

const TABLE: &str = "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";

const HEADERS: [(&str, &str); 5] = [
    ("Current", ""),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
    ("Name", "NAME"),
];

/// How wide descriptions and errors are in a list.
const WIDTH: usize = 45;

/// Where what is nowhere is said to lie.
const IN_MEMORY: &str = "<IN MEMORY>";

#[derive(Debug, Args)]
#[command(override_usage = "hull context ls [OPTIONS]")]
pub(super) struct ListArguments {
    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull context inspect [OPTIONS] [CONTEXT] [CONTEXT...]")]
pub(super) struct InspectArguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,

    /// Names; the current context without one
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
}

pub(super) fn list(store: &Store, options: &HostOptions, arguments: ListArguments) -> CommandResult {
    let current = options.context()?;
    let mut metas = store.list()?;
    metas.push(default(options)?);
    metas.sort_by(|a, b| a.name.cmp(&b.name));
    let mut rows: Vec<Row> = metas.iter().map(|meta| row(meta, &current, "")).collect();
    if !metas.iter().any(|meta| meta.name == current) {
        let error = store.get(&current).map(drop).unwrap_err().to_string();
        let meta = Meta {
            name: current.clone(),
            ..Meta::default()
        };
        let place = metas.partition_point(|meta| meta.name < current);
        rows.insert(place, row(&meta, &current, &ellipsis(&error, WIDTH)));
    }
    let format = match arguments.format.as_deref() {
        None | Some("table") if arguments.quiet => Some("{{.Name}}"),
        format => format,
    };
    print(&ListFormat::parse(format, TABLE, false)?.render(&HEADERS, &rows)?)?;
    if let Some(variable) = HostOptions::host_variable()
        && !arguments.quiet
    {
        complain(format_args!(
            "Warning: {variable} environment variable overrides the active context. To use a context, either set the \
             global --context flag, or unset {variable} environment variable."
        ));
    }
    Ok(())
}

fn row(meta: &Meta, current: &str, error: &str) -> Row {
    let description = match meta.name.as_str() {
        DEFAULT => DEFAULT_DESCRIPTION,
        _ => meta.description(),
    };
    Row::new([
        ("Current", (meta.name == current).into()),
        ("Description", ellipsis(description, WIDTH).into()),
        ("DockerEndpoint", meta.endpoints.docker.host.clone().into()),
        ("Error", error.into()),
        ("Name", meta.name.clone().into()),
    ])
}

/// What holds without contexts, as one.
fn default(options: &HostOptions) -> anyhow::Result<Meta> {
    let mut meta = Meta {
        name: DEFAULT.to_owned(),
        ..Meta::default()
    };
    meta.endpoints.docker.host = options.default_endpoint()?.address.to_string();
    Ok(meta)
}

pub(super) fn inspect(store: &Store, options: &HostOptions, arguments: InspectArguments) -> CommandResult {
    let names = match arguments.names {
        names if names.is_empty() => vec![options.context()?],
        names => names,
    };
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match describe(store, options, &name) {
            Ok(value) => found.push(value),
            Err(error) => failures.push(error),
        }
    }
    let text = match arguments.format.as_deref() {
        None | Some("") => indented(&serde_json::to_string(&found)?) + "\n",
        Some("json") => serde_json::to_string(&found)? + "\n",
        Some(text) => {
            let template = Template::parse(text)?;
            let mut text = String::new();
            for described in &found {
                text.push_str(&template.render(&serde_json::to_value(described)?)?);
                text.push('\n');
            }
            text
        }
    };
    print(&text)?;
    if failures.is_empty() {
        return Ok(());
    }
    failures.iter().for_each(complain);
    Err(Failure::silent(1))
}

/// A context as `inspect` shows it, in Docker's order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    #[serde(flatten)]
    meta: Meta,
    #[serde(rename = "TLSMaterial")]
    tls_material: BTreeMap<&'static str, Vec<&'static str>>,
    storage: Storage,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Storage {
    metadata_path: String,
    #[serde(rename = "TLSPath")]
    tls_path: String,
}

fn describe(store: &Store, options: &HostOptions, name: &str) -> anyhow::Result<Described> {
    if name == DEFAULT {
        return Ok(Described {
            meta: default(options)?,
            tls_material: BTreeMap::new(),
            storage: Storage {
                metadata_path: IN_MEMORY.to_owned(),
                tls_path: IN_MEMORY.to_owned(),
            },
        });
    }
    let files: Vec<_> = store.tls_files(name).into_iter().map(|(file, _)| file).collect();
    let material = (!files.is_empty()).then_some(("docker", files));
    Ok(Described {
        meta: store.get(name)?,
        tls_material: material.into_iter().collect(),
        storage: Storage {
            metadata_path: store.meta_folder(name).display().to_string(),
            tls_path: store.tls_folder(name).display().to_string(),
        },
    })
}
