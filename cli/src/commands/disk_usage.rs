//! `hull system df`

use bollard_stubs::models::{ContainerSummary, ContainerSummaryStateEnum, ImageSummary};
use clap::Args as ClapArgs;
use serde::Deserialize;

use super::build_cache::{CacheRecord, CacheTotals, DISK_USAGE_HEADERS, DISK_USAGE_TABLE};
use super::print;
use super::volume::Volume;
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, ago, decimal_size, ellipsis, short_id};
use crate::time;

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

const HEADERS: [(&str, &str); 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const IMAGE_TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Created}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";

const IMAGE_HEADERS: [(&str, &str); 8] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("Created", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

const VOLUME_TABLE: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";

const VOLUME_HEADERS: [(&str, &str); 3] = [("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];

const CONTAINER_TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.Created}}\t{{.Status}}\t{{.Names}}";

const CONTAINER_HEADERS: [(&str, &str); 8] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("Created", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];

/// The width of a container's command.
const COMMAND_WIDTH: usize = 20;

#[derive(Debug, ClapArgs)]
#[command(override_usage = "hull system df [OPTIONS]")]
pub(crate) struct Arguments {
    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long, conflicts_with = "verbose")]
    format: Option<String>,

    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

/// `GET /system/df` of API 1.51.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct DiskUsage {
    layers_size: i64,
    images: Vec<ImageSummary>,
    containers: Vec<ContainerSummary>,
    volumes: Vec<Volume>,
    build_cache: Vec<CacheRecord>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let format = ListFormat::parse(arguments.format.as_deref(), TABLE, false)?;
    let usage: DiskUsage = client.get(Target::new(&["system", "df"])).await?;
    let text = if arguments.verbose {
        details(&usage)?
    } else {
        let rows = [
            images(&usage),
            containers(&usage),
            volumes(&usage),
            build_cache(&usage.build_cache),
        ];
        format.render(&HEADERS, &rows)?
    };
    Ok(print(&text)?)
}

fn images(usage: &DiskUsage) -> Row {
    let active = usage.images.iter().filter(|image| image.containers > 0).count();
    let used: i64 = usage
        .images
        .iter()
        .filter(|image| image.containers > 0 && image.size >= 0 && image.shared_size >= 0)
        .map(|image| image.size - image.shared_size)
        .sum();
    let reclaimable = (usage.layers_size - used).max(0);
    summary(
        "Images",
        usage.images.len(),
        active,
        usage.layers_size,
        reclaimable,
    )
}

fn containers(usage: &DiskUsage) -> Row {
    let size = |container: &&ContainerSummary| container.size_rw.unwrap_or_default();
    let active = |container: &&ContainerSummary| {
        matches!(
            container.state,
            Some(
                ContainerSummaryStateEnum::RUNNING
                    | ContainerSummaryStateEnum::PAUSED
                    | ContainerSummaryStateEnum::RESTARTING
            )
        )
    };
    let all: i64 = usage.containers.iter().map(|container| size(&container)).sum();
    let used: i64 = usage
        .containers
        .iter()
        .filter(active)
        .map(|container| size(&container))
        .sum();
    let count = usage.containers.iter().filter(active).count();
    summary("Containers", usage.containers.len(), count, all, all - used)
}

fn volumes(usage: &DiskUsage) -> Row {
    let data = || {
        usage
            .volumes
            .iter()
            .filter_map(|volume| volume.usage_data.as_ref())
    };
    let all: i64 = data().map(|data| data.size).sum();
    let active = || data().filter(|data| data.ref_count > 0);
    let used: i64 = active().map(|data| data.size).sum();
    summary(
        "Local Volumes",
        usage.volumes.len(),
        active().count(),
        all,
        all - used,
    )
}

fn build_cache(records: &[CacheRecord]) -> Row {
    let totals = CacheTotals::of(records);
    summary(
        "Build Cache",
        records.len(),
        totals.active,
        totals.size,
        totals.reclaimable,
    )
}

fn summary(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Row {
    let share = if size > 0 {
        format!("{} ({}%)", decimal_size(reclaimable), reclaimable * 100 / size)
    } else {
        decimal_size(reclaimable)
    };
    row([
        ("Type", kind.to_owned()),
        ("TotalCount", total.to_string()),
        ("Active", active.to_string()),
        ("Size", decimal_size(size)),
        ("Reclaimable", share),
    ])
}

fn details(usage: &DiskUsage) -> anyhow::Result<String> {
    let now = time::now();
    let images: Vec<Row> = usage.images.iter().map(|image| image_row(image, now)).collect();
    let containers: Vec<Row> = usage
        .containers
        .iter()
        .map(|container| container_row(container, now))
        .collect();
    let volumes: Vec<Row> = usage.volumes.iter().map(volume_row).collect();
    let records: Vec<Row> = usage.build_cache.iter().map(|record| record.row(now)).collect();
    let table = |template| ListFormat::parse(None, template, false);
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        table(IMAGE_TABLE)?.render(&IMAGE_HEADERS, &images)?,
        table(CONTAINER_TABLE)?.render(&CONTAINER_HEADERS, &containers)?,
        table(VOLUME_TABLE)?.render(&VOLUME_HEADERS, &volumes)?,
        decimal_size(CacheTotals::of(&usage.build_cache).size),
        table(DISK_USAGE_TABLE)?.render(&DISK_USAGE_HEADERS, &records)?
    ))
}

fn volume_row(volume: &Volume) -> Row {
    let (links, size) = match &volume.usage_data {
        Some(usage) => (usage.ref_count, usage.size),
        None => (0, 0),
    };
    row([
        ("Name", volume.name.clone()),
        ("Links", links.to_string()),
        ("Size", decimal_size(size)),
    ])
}

fn image_row(image: &ImageSummary, now: i64) -> Row {
    let name = image.repo_tags.first().map_or("<none>:<none>", String::as_str);
    let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
    row([
        ("Repository", repository.to_owned()),
        ("Tag", tag.to_owned()),
        ("ID", short_id(&image.id).to_owned()),
        ("Created", ago(image.created, now)),
        ("Size", decimal_size(image.size)),
        ("SharedSize", decimal_size(image.shared_size.max(0))),
        ("UniqueSize", decimal_size(image.size - image.shared_size.max(0))),
        ("Containers", image.containers.max(0).to_string()),
    ])
}

fn container_row(container: &ContainerSummary, now: i64) -> Row {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let names: Vec<String> = container
        .names
        .iter()
        .flatten()
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect();
    let volumes = container
        .mounts
        .iter()
        .flatten()
        .filter(|mount| mount.driver.as_deref() == Some("local"));
    row([
        ("ID", short_id(&text(&container.id)).to_owned()),
        ("Image", text(&container.image)),
        (
            "Command",
            format!("{:?}", ellipsis(&text(&container.command), COMMAND_WIDTH)),
        ),
        ("LocalVolumes", volumes.count().to_string()),
        ("Size", decimal_size(container.size_rw.unwrap_or_default())),
        ("Created", ago(container.created.unwrap_or_default(), now)),
        ("Status", text(&container.status)),
        ("Names", names.join(",")),
    ])
}

fn row<const N: usize>(fields: [(&str, String); N]) -> Row {
    Row::new(fields.map(|(name, value)| (name, value.into())))
}
