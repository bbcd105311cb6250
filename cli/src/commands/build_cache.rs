//! The build cache: `hull builder du`, `hull builder prune`, and its part of `hull system df`.

use bollard_stubs::models::BuildPruneResponse;
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;

use super::confirm::confirm;
use super::filters::{self, Filter};
use super::print;
use crate::api::{ApiError, Client, Target};
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, ago, decimal_size, parse_memory};
use crate::time;

const TABLE: &str = "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedSince}}";
const VERBOSE_TABLE: &str = "{{.ID}}\t{{.CacheType}}\t{{.Reclaimable}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Description}}";

/// The columns of `hull system df -v`.
pub(super) const DISK_USAGE_TABLE: &str =
    "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
pub(super) const DISK_USAGE_HEADERS: [(&str, &str); 7] = [
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

const HEADERS: [(&str, &str); 8] = [
    ("ID", "ID"),
    ("CacheType", "TYPE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST ACCESSED"),
    ("UsageCount", "USAGE"),
    ("Description", "DESCRIPTION"),
];

#[derive(Debug, Args)]
#[command(override_usage = "hull builder du [OPTIONS]")]
pub(crate) struct UsageArguments {
    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long, conflicts_with = "verbose")]
    format: Option<String>,

    /// Show what each record was made by, too
    #[arg(long)]
    verbose: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull builder prune [OPTIONS]")]
pub(crate) struct PruneArguments {
    /// Remove all unused build cache, not just dangling ones
    #[arg(short, long)]
    all: bool,

    /// Provide filter values (e.g. "until=24h")
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,

    /// Amount of disk space to keep for cache
    #[arg(long, alias = "reserved-space", value_name = "BYTES", value_parser = parse_memory)]
    keep_storage: Option<i64>,
}

/// One thing that is kept (Docker Engine API, `BuildCache`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CacheRecord {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Type")]
    kind: String,
    description: String,
    in_use: bool,
    shared: bool,
    size: i64,
    created_at: String,
    last_used_at: Option<String>,
    usage_count: i64,
}

/// What the records take together, in bytes. Layers of images are not counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheTotals {
    pub(super) active: usize,
    pub(super) size: i64,
    pub(super) reclaimable: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DiskUsage {
    build_cache: Option<Vec<CacheRecord>>,
}

impl CacheTotals {
    /// Adds up.
    pub(super) fn of(records: &[CacheRecord]) -> Self {
        records.iter().fold(Self::default(), |mut totals, record| {
            totals.active += usize::from(record.in_use);
            if !record.shared {
                totals.size = totals.size.saturating_add(record.size);
                let reclaimable = if record.in_use { 0 } else { record.size };
                totals.reclaimable = totals.reclaimable.saturating_add(reclaimable);
            }
            totals
        })
    }
}

impl CacheRecord {
    /// What a template can name.
    pub(super) fn row(&self, now: i64) -> Row {
        let since = |text: &str| seconds(text).map_or(String::new(), |then| ago(then, now));
        Row::new([
            ("ID", self.id.clone().into()),
            ("CacheType", self.kind.clone().into()),
            ("Description", self.description.clone().into()),
            ("Reclaimable", (!self.in_use).to_string().into()),
            ("InUse", self.in_use.to_string().into()),
            ("Shared", self.shared.to_string().into()),
            ("Size", decimal_size(self.size).into()),
            ("CreatedAt", self.created_at.clone().into()),
            ("CreatedSince", since(&self.created_at).into()),
            ("LastUsedAt", self.last_used_at.clone().unwrap_or_default().into()),
            (
                "LastUsedSince",
                since(self.last_used_at.as_deref().unwrap_or_default()).into(),
            ),
            ("UsageCount", self.usage_count.to_string().into()),
        ])
    }
}

/// A time of the API, in seconds since 1970; none for one that has not been.
fn seconds(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_second()).filter(|seconds| *seconds > 0)
}

pub(crate) async fn usage(client: &Client, arguments: UsageArguments) -> CommandResult {
    let table = if arguments.verbose { VERBOSE_TABLE } else { TABLE };
    let format = ListFormat::parse(arguments.format.as_deref(), table, false)?;
    let target = Target::new(&["system", "df"]).query("type", "build-cache");
    let usage: DiskUsage = client.get(target).await?;
    let records = usage.build_cache.unwrap_or_default();
    let now = time::now();
    let rows: Vec<Row> = records.iter().map(|record| record.row(now)).collect();
    let mut text = format.render(&HEADERS, &rows)?;
    if arguments.format.is_none() {
        let totals = CacheTotals::of(&records);
        let (reclaimable, size) = (decimal_size(totals.reclaimable), decimal_size(totals.size));
        text += &format!("Reclaimable:  {reclaimable}\nTotal:        {size}\n");
    }
    Ok(print(&text)?)
}

pub(crate) async fn prune(client: &Client, arguments: PruneArguments) -> CommandResult {
    let which = if arguments.all { "all" } else { "all dangling" };
    let question =
        format!("WARNING! This will remove {which} build cache. Are you sure you want to continue?");
    if !arguments.force && !confirm(&question)? {
        return Err(anyhow::anyhow!("builder prune has been cancelled").into());
    }
    let kept = arguments.keep_storage.map(|bytes| bytes.to_string());
    let target = prune_target(arguments.all, &arguments.filter).option("reserved-space", kept.as_deref());
    let pruned: BuildPruneResponse = client.post_for(target).await?;
    let deleted = pruned.caches_deleted.unwrap_or_default();
    let mut text = String::new();
    if !deleted.is_empty() {
        text = format!("Deleted build cache objects:\n{}\n\n", deleted.join("\n"));
    }
    let size = decimal_size(pruned.space_reclaimed.unwrap_or_default());
    Ok(print(&format!("{text}Total reclaimed space: {size}\n"))?)
}

/// Removes what no build has used lately, or all that none uses now.
pub(super) async fn prune_unused(
    client: &Client,
    all: bool,
    filter: &[Filter],
) -> Result<BuildPruneResponse, ApiError> {
    client.post_for(prune_target(all, filter)).await
}

fn prune_target(all: bool, filter: &[Filter]) -> Target {
    Target::new(&["build", "prune"])
        .flag("all", all)
        .option("filters", filters::parameter(filter).as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_images_take_no_space_of_the_cache() {
        let record = |in_use, shared, size| CacheRecord {
            in_use,
            shared,
            size,
            ..CacheRecord::default()
        };
        let records = [
            record(false, false, 1),
            record(true, false, 20),
            record(false, true, 300),
        ];
        let expected = CacheTotals {
            active: 1,
            size: 21,
            reclaimable: 1,
        };
        assert_eq!(CacheTotals::of(&records), expected);
    }

    #[test]
    fn a_time_that_has_not_been_is_none() {
        assert_eq!(seconds("2026-11-20T17:39:55.123Z"), Some(1_795_196_395));
        assert_eq!(seconds("0001-01-01T00:00:00Z"), None);
        assert_eq!(seconds(""), None);
    }
}
