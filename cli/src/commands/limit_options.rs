//! The options that limit a container.

use std::collections::HashMap;

use bollard_stubs::models::{ResourcesUlimits, ThrottleDevice};
use clap::Args;
use thiserror::Error;

use crate::format::parse_memory;

/// What a container may use, which `update` can change.
#[derive(Debug, Args)]
pub(super) struct ResourceOptions {
    /// Limit CPU time per period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_period: Option<i64>,

    /// CPU time per period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_quota: Option<i64>,

    /// CPUs in which to allow execution (0-3, 0,1); the microVM has as many as the last one needs
    #[arg(long, value_name = "CPUS")]
    pub(super) cpuset_cpus: Option<String>,

    /// MEMs in which to allow execution; a microVM has 0
    #[arg(long, value_name = "NODES")]
    pub(super) cpuset_mems: Option<String>,

    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    pub(super) cpu_shares: Option<i64>,

    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = parse_cpus)]
    pub(super) cpus: Option<i64>,

    /// Memory limit, from which the memory of the microVM follows
    #[arg(short, long, value_name = "BYTES", value_parser = parse_memory)]
    pub(super) memory: Option<i64>,

    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    pub(super) memory_reservation: Option<i64>,

    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap; a microVM has none
    #[arg(long, value_name = "BYTES", value_parser = parse_swap, allow_negative_numbers = true)]
    pub(super) memory_swap: Option<i64>,

    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) pids_limit: Option<i64>,
}

/// Limits that a container has from its start.
#[derive(Debug, Args)]
pub(super) struct LimitOptions {
    /// Block IO (relative weight), between 10 and 1000, which a container that is alone with its disk has none of
    #[arg(long, value_name = "WEIGHT")]
    pub(super) blkio_weight: Option<u16>,

    /// Limit read rate (bytes per second) from the container's disk
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = parse_byte_rate)]
    pub(super) device_read_bps: Vec<Rate>,

    /// Limit read rate (IO per second) from the container's disk
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = parse_rate)]
    pub(super) device_read_iops: Vec<Rate>,

    /// Limit write rate (bytes per second) to the container's disk
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = parse_byte_rate)]
    pub(super) device_write_bps: Vec<Rate>,

    /// Limit write rate (IO per second) to the container's disk
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = parse_rate)]
    pub(super) device_write_iops: Vec<Rate>,

    /// Disable OOM Killer, which cgroup v2 cannot
    #[arg(long)]
    pub(super) oom_kill_disable: bool,

    /// Tune the OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub(super) oom_score_adj: Option<i64>,

    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    pub(super) shm_size: Option<i64>,

    /// Storage driver options for the container, such as size=10G
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) storage_opt: Vec<String>,

    /// Sysctl options
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_sysctl)]
    pub(super) sysctl: Vec<(String, String)>,

    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(super) ulimit: Vec<Ulimit>,
}

/// The rate of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rate {
    device: String,
    rate: i64,
}

/// A resource limit of processes, setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}

/// What is no limit.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum UlimitError {
    #[error("invalid ulimit argument: {0}")]
    Format(String),
    #[error("invalid ulimit type: {0}")]
    Name(String),
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    Order { soft: i64, hard: i64 },
}

/// Names of setrlimit(2) in small letters, without `RLIMIT_`.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl LimitOptions {
    /// What the daemon is told of resource limits.
    pub(super) fn ulimits(&self) -> Vec<ResourcesUlimits> {
        self.ulimit.iter().map(Ulimit::tell).collect()
    }

    /// What the daemon is told of kernel parameters.
    pub(super) fn sysctls(&self) -> HashMap<String, String> {
        self.sysctl.iter().cloned().collect()
    }
}

/// What the daemon is told of rates.
pub(super) fn throttles(rates: &[Rate]) -> Option<Vec<ThrottleDevice>> {
    let tell = |rate: &Rate| ThrottleDevice {
        path: Some(rate.device.clone()),
        rate: Some(rate.rate),
    };
    (!rates.is_empty()).then(|| rates.iter().map(tell).collect())
}

impl Ulimit {
    /// What the daemon is told of it.
    pub(super) fn tell(&self) -> ResourcesUlimits {
        ResourcesUlimits {
            name: Some(self.name.clone()),
            soft: Some(self.soft),
            hard: Some(self.hard),
        }
    }
}

impl std::str::FromStr for Ulimit {
    type Err = UlimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || UlimitError::Format(text.to_owned());
        let (name, values) = text.split_once('=').ok_or_else(invalid)?;
        if !ULIMITS.contains(&name) {
            return Err(UlimitError::Name(name.to_owned()));
        }
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |text: &str| text.parse::<i64>().map_err(|_| invalid());
        let (soft, hard) = (number(soft)?, number(hard)?);
        // -1 is no limit.
        let above = |limit: i64| if limit == -1 { i64::MAX } else { limit };
        if above(soft) > above(hard) {
            return Err(UlimitError::Order { soft, hard });
        }
        Ok(Self {
            name: name.to_owned(),
            soft,
            hard,
        })
    }
}

fn parse_byte_rate(text: &str) -> Result<Rate, String> {
    rate(text, |rate| parse_memory(rate).ok())
        .ok_or_else(|| format!("invalid rate for device: {text}: the correct format is <device-path>:<number>[<unit>], such as /dev/vda:1mb"))
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    rate(text, |rate| rate.parse().ok().filter(|rate| *rate >= 0)).ok_or_else(|| {
        format!("invalid rate for device: {text}: the correct format is <device-path>:<number>, such as /dev/vda:100")
    })
}

fn rate(text: &str, parse: impl Fn(&str) -> Option<i64>) -> Option<Rate> {
    let (device, rate) = text.split_once(':')?;
    Some(Rate {
        device: device.starts_with("/dev/").then(|| device.to_owned())?,
        rate: parse(rate)?,
    })
}

pub(super) fn parse_swap(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        text => parse_memory(text).map_err(|error| error.to_string()),
    }
}

fn parse_sysctl(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("sysctl '{text}' is not NAME=VALUE")),
    }
}

/// A decimal number of CPUs, in billionths.
pub(super) fn parse_cpus(text: &str) -> Result<i64, String> {
    const DIGITS: usize = 9;
    let invalid = || format!("failed to parse {text:?} as a number of CPUs, such as 1.5");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > DIGITS {
        return Err(invalid());
    }
    let digits = format!("{whole}{fraction:0<DIGITS$}");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    digits.parse().map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulimit_has_one_value_or_two() {
        let limit = |text: &str| text.parse::<Ulimit>().map(|limit| (limit.soft, limit.hard));
        assert_eq!(limit("nofile=10"), Ok((10, 10)));
        assert_eq!(limit("nofile=10:20"), Ok((10, 20)));
        assert_eq!(limit("core=0:-1"), Ok((0, -1)));
        assert_eq!(limit("files=1"), Err(UlimitError::Name("files".into())));
        assert_eq!(limit("nofile"), Err(UlimitError::Format("nofile".into())));
        assert_eq!(limit("nofile=a"), Err(UlimitError::Format("nofile=a".into())));
        assert_eq!(limit("nofile=3:2"), Err(UlimitError::Order { soft: 3, hard: 2 }));
        assert_eq!(
            limit("nofile=-1:2"),
            Err(UlimitError::Order { soft: -1, hard: 2 })
        );
    }

    #[test]
    fn rates_are_of_devices() {
        assert_eq!(parse_byte_rate("/dev/vda:1mb").map(|rate| rate.rate), Ok(1 << 20));
        assert_eq!(parse_rate("/dev/vda:100").map(|rate| rate.rate), Ok(100));
        for text in ["/dev/vda", "vda:1", "/dev/vda:x", "/dev/vda:-1"] {
            assert!(
                parse_byte_rate(text).is_err() && parse_rate(text).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn cpus_are_exact_billionths() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus(".25"), Ok(250_000_000));
        assert_eq!(parse_cpus("0.000000001"), Ok(1));
        for text in ["", ".", "x", "-1", "1e3", "0.0000000001", "99999999999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }
}
