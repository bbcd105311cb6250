//! `hull stats`

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard_stubs::models::{ContainerStatsResponse, ContainerSummary};
use clap::Args;
use futures_util::future::join_all;
use serde_json::Value;

use super::print;
use crate::api::{ApiError, Client, Target};
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, binary_size, decimal_size, short_id};

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

const HEADERS: [(&str, &str); 9] = [
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// The time from one picture to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// What stands for a number that is not known.
const UNKNOWN: &str = "--";

#[derive(Debug, Args)]
#[command(override_usage = "hull stats [OPTIONS] [CONTAINER...]")]
pub(crate) struct Arguments {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,

    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,

    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,

    /// Names or IDs; none means all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// CPU time that was used, of which there was so much, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct CpuTime {
    used: u64,
    system: u64,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let format = ListFormat::parse(arguments.format.as_deref(), TABLE, false)?;
    let table = matches!(format, ListFormat::Table(_));
    let mut earlier: HashMap<String, CpuTime> = HashMap::new();
    let mut first = true;
    loop {
        let names = names(client, &arguments).await?;
        let samples = join_all(names.iter().map(|name| sample(client, name, arguments.no_stream))).await;
        let mut rows = Vec::with_capacity(names.len());
        let mut seen = HashMap::new();
        for (name, sample) in names.iter().zip(samples) {
            // One that goes while it is watched is no error; one that never was is.
            let sample = match sample {
                Err(error) if error.is_not_found() && !first => None,
                sample => Some(sample?),
            };
            let before = earlier.get(name).copied();
            if let Some(time) = sample.as_ref().and_then(cpu_time) {
                seen.insert(name.clone(), time);
            }
            rows.push(row(name, sample, before, arguments.no_trunc));
        }
        earlier = seen;
        let text = format.render(&HEADERS, &rows)?;
        if arguments.no_stream {
            print(&text)?;
            return Ok(());
        }
        print(&if table { picture(&text) } else { text })?;
        first = false;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// From the top left corner, over what was there before.
fn picture(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

/// The containers to look at.
async fn names(client: &Client, arguments: &Arguments) -> Result<Vec<String>, ApiError> {
    if !arguments.containers.is_empty() {
        return Ok(arguments.containers.clone());
    }
    let target = Target::new(&["containers", "json"]).flag("all", arguments.all);
    let running: Vec<ContainerSummary> = client.get(target).await?;
    Ok(running.into_iter().filter_map(|container| container.id).collect())
}

/// A sample. With `whole` it tells the use of a second, too, which it takes.
async fn sample(client: &Client, name: &str, whole: bool) -> Result<ContainerStatsResponse, ApiError> {
    let target = Target::new(&["containers", name, "stats"])
        .query("stream", "0")
        .flag("one-shot", !whole);
    client.get(target).await
}

fn cpu_time(sample: &ContainerStatsResponse) -> Option<CpuTime> {
    let cpu = sample.cpu_stats.as_ref()?;
    Some(CpuTime {
        used: cpu.cpu_usage.as_ref()?.total_usage?,
        system: cpu.system_cpu_usage?,
    })
}

fn row(name: &str, sample: Option<ContainerStatsResponse>, before: Option<CpuTime>, whole_id: bool) -> Row {
    let Some(sample) = sample else {
        return shown([
            ("Container", name),
            ("ID", UNKNOWN),
            ("Name", UNKNOWN),
            ("CPUPerc", UNKNOWN),
            ("MemUsage", "-- / --"),
            ("MemPerc", UNKNOWN),
            ("NetIO", UNKNOWN),
            ("BlockIO", UNKNOWN),
            ("PIDs", UNKNOWN),
        ]);
    };
    let id = sample.id.clone().unwrap_or_default();
    let own_name = sample.name.as_deref().unwrap_or_default().trim_start_matches('/');
    let (used, limit) = memory(&sample);
    let share = if limit == 0 {
        0.0
    } else {
        used as f64 / limit as f64 * 100.0
    };
    let (received, sent) = network(&sample);
    let (read, written) = block(&sample);
    let pids = sample.pids_stats.as_ref().and_then(|pids| pids.current);
    shown([
        ("Container", name.to_owned()),
        ("ID", if whole_id { id } else { short_id(&id).to_owned() }),
        ("Name", own_name.to_owned()),
        ("CPUPerc", format!("{:.2}%", cpu_share(&sample, before))),
        (
            "MemUsage",
            format!("{} / {}", binary_size(signed(used)), binary_size(signed(limit))),
        ),
        ("MemPerc", format!("{share:.2}%")),
        ("NetIO", pair(received, sent)),
        ("BlockIO", pair(read, written)),
        ("PIDs", pids.unwrap_or_default().to_string()),
    ])
}

/// A row without labels.
fn shown<V: Into<Value>, const N: usize>(fields: [(&str, V); N]) -> Row {
    let fields = fields.into_iter();
    Row {
        fields: fields
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect(),
        labels: BTreeMap::new(),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn pair(one: u64, other: u64) -> String {
    format!("{} / {}", decimal_size(signed(one)), decimal_size(signed(other)))
}

/// The share of one CPU that was used since the sample before, in percent: 200 is two of them.
fn cpu_share(sample: &ContainerStatsResponse, before: Option<CpuTime>) -> f64 {
    let told = sample.precpu_stats.as_ref().and_then(|cpu| {
        Some(CpuTime {
            used: cpu.cpu_usage.as_ref()?.total_usage?,
            system: cpu.system_cpu_usage?,
        })
    });
    let (Some(now), Some(before)) = (cpu_time(sample), told.or(before)) else {
        return 0.0;
    };
    let cpus = sample
        .cpu_stats
        .as_ref()
        .and_then(|cpu| cpu.online_cpus)
        .unwrap_or(1);
    match now.system.saturating_sub(before.system) {
        0 => 0.0,
        system => now.used.saturating_sub(before.used) as f64 / system as f64 * f64::from(cpus) * 100.0,
    }
}

/// Memory without files that can be dropped, and its limit.
fn memory(sample: &ContainerStatsResponse) -> (u64, u64) {
    let Some(memory) = &sample.memory_stats else {
        return (0, 0);
    };
    let usage = memory.usage.unwrap_or_default();
    let cache = memory
        .stats
        .as_ref()
        .and_then(|stats| stats.get("inactive_file").copied());
    let used = usage.checked_sub(cache.unwrap_or_default()).unwrap_or(usage);
    (used, memory.limit.unwrap_or_default())
}

fn network(sample: &ContainerStatsResponse) -> (u64, u64) {
    let interfaces = sample.networks.iter().flat_map(HashMap::values);
    interfaces.fold((0, 0), |(received, sent), interface| {
        (
            received + interface.rx_bytes.unwrap_or_default(),
            sent + interface.tx_bytes.unwrap_or_default(),
        )
    })
}

fn block(sample: &ContainerStatsResponse) -> (u64, u64) {
    let entries = sample
        .blkio_stats
        .as_ref()
        .and_then(|stats| stats.io_service_bytes_recursive.as_ref());
    let sum = |wanted: &str| {
        let values = entries.into_iter().flatten().filter_map(|entry| {
            let is_wanted = entry.op.as_deref()?.eq_ignore_ascii_case(wanted);
            entry.value.filter(|_| is_wanted)
        });
        values.sum()
    };
    (sum("read"), sum("write"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> ContainerStatsResponse {
        serde_json::from_value(json!({
            "id": "0123456789abcdef", "name": "/web",
            "cpu_stats": {"cpu_usage": {"total_usage": 600}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 8 << 20, "stats": {"inactive_file": 1 << 20}},
            "pids_stats": {"current": 3},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"major": 254, "minor": 0, "op": "read", "value": 1500},
                {"major": 254, "minor": 0, "op": "write", "value": 0},
            ]},
            "networks": {},
        }))
        .unwrap()
    }

    fn field<'a>(row: &'a Row, name: &str) -> &'a str {
        row.fields[name].as_str().unwrap()
    }

    #[test]
    fn a_row_is_computed_as_docker_does() {
        let row = row("web", Some(answer()), None, false);
        for (name, value) in [
            ("ID", "0123456789ab"),
            ("Name", "web"),
            ("CPUPerc", "100.00%"),
            ("MemUsage", "2MiB / 8MiB"),
            ("MemPerc", "25.00%"),
            ("NetIO", "0B / 0B"),
            ("BlockIO", "1.5kB / 0B"),
            ("PIDs", "3"),
        ] {
            assert_eq!(field(&row, name), value, "{name}");
        }
    }

    #[test]
    fn a_sample_without_an_earlier_one_uses_that_of_the_last_picture() {
        let mut sample = answer();
        sample.precpu_stats = None;
        let before = CpuTime {
            used: 350,
            system: 1500,
        };
        assert_eq!(cpu_share(&sample, Some(before)), 100.0);
        assert_eq!(cpu_share(&sample, None), 0.0);
    }

    #[test]
    fn one_that_has_gone_is_a_row_of_dashes() {
        let row = row("web", None, None, false);
        assert_eq!((field(&row, "Container"), field(&row, "CPUPerc")), ("web", "--"));
    }
}
