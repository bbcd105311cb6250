//! The options of `hull build`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::cache::{CacheFrom, CacheTo};
use super::output::Output;
use super::secrets::SecretSpec;
use super::ssh::SshSpec;
use crate::commands::limit_options::{Ulimit, parse_cpus, parse_swap};
use crate::format::parse_memory;
use crate::progress::{Show, Stream};
use crate::time::parse_duration;

#[derive(Debug, Args)]
#[command(
    override_usage = "hull build [OPTIONS] PATH | URL | -",
    next_display_order = None
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) image: ImageOptions,

    #[command(flatten)]
    pub(super) run: RunOptions,

    #[command(flatten)]
    pub(super) unsupported: Unsupported,

    /// Set build-time variables; NAME alone takes its value from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) build_arg: Vec<String>,

    /// Compress the build context using gzip
    #[arg(long)]
    pub(super) compress: bool,

    /// Name of the Dockerfile (default: PATH/Dockerfile), or '-' for STDIN
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<String>,

    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,

    /// Shorthand for --output=type=docker
    #[arg(long)]
    pub(super) load: bool,

    /// Where the result goes: DIR for its files, or type=docker|image|registry|oci|tar|local,dest=PATH,...
    #[arg(short, long, value_name = "DIR|KEY=VALUE,...")]
    pub(super) output: Vec<Output>,

    /// How the build is shown: auto, plain, json or quiet (default auto)
    #[arg(long, value_name = "HOW")]
    pub(super) progress: Option<Progress>,

    /// Shorthand for --output=type=registry
    #[arg(long)]
    pub(super) push: bool,

    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Secret to expose to the build (id=NAME[,src=FILE][,env=VARIABLE])
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) secret: Vec<SecretSpec>,

    /// SSH agent to lend to the build: default, or an ID with its socket
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub(super) ssh: Vec<SshSpec>,

    /// Give the build up after this time, such as 30m or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = parse_time_limit)]
    pub(super) timeout: Option<Duration>,

    /// The context: a folder, the URL of a Git repository or an archive, or '-' for a Dockerfile or an archive on STDIN
    #[arg(value_name = "PATH | URL | -")]
    pub(super) context: String,
}

/// What image is made.
#[derive(Debug, Args)]
#[command(next_display_order = None)]
pub(super) struct ImageOptions {
    /// Caches of other machines: IMAGE, or type=registry|local,ref=IMAGE|src=DIR
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) cache_from: Vec<CacheFrom>,

    /// Where the cache of the build goes: type=registry|local|inline,ref=IMAGE|dest=DIR,mode=min|max
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) cache_to: Vec<CacheTo>,

    /// Always remove what a step leaves behind, which hull does in any case
    #[arg(long)]
    pub(super) force_rm: bool,

    /// Set metadata for an image
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) label: Vec<String>,

    /// Do not use cache when building the image
    #[arg(long)]
    pub(super) no_cache: bool,

    /// Build the image for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,

    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pub(super) pull: bool,

    /// Remove what a step leaves behind after a successful build, which hull does in any case
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(super) rm: bool,

    /// Name and optionally a tag in the "name:tag" format
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(super) tag: Vec<String>,

    /// Set the target build stage to build
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
}

/// What the commands of `RUN` may use.
#[derive(Debug, Args)]
#[command(next_display_order = None)]
pub(super) struct RunOptions {
    /// Add a custom host-to-IP mapping ("host:ip")
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = parse_host)]
    pub(super) add_host: Vec<String>,

    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup_parent: Option<String>,

    /// Limit CPU time per period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_period: Option<i64>,

    /// CPU time per period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_quota: Option<i64>,

    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    pub(super) cpu_shares: Option<i64>,

    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = parse_cpus, conflicts_with_all = ["cpu_period", "cpu_quota"])]
    pub(super) cpus: Option<i64>,

    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    pub(super) cpuset_cpus: Option<String>,

    /// MEMs in which to allow execution; a microVM has 0
    #[arg(long, value_name = "NODES")]
    pub(super) cpuset_mems: Option<String>,

    /// Container isolation technology: every "RUN" has a microVM
    #[arg(long, value_name = "NAME")]
    pub(super) isolation: Option<String>,

    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = parse_memory)]
    pub(super) memory: Option<i64>,

    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap; a microVM has none
    #[arg(long, value_name = "BYTES", value_parser = parse_swap, allow_negative_numbers = true)]
    pub(super) memory_swap: Option<i64>,

    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, value_name = "NETWORK")]
    pub(super) network: Option<String>,

    /// Size of "/dev/shm"
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    pub(super) shm_size: Option<i64>,

    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(super) ulimit: Vec<Ulimit>,
}

/// What hull does not do. It is known, so that whoever asks is told what to do instead.
#[derive(Debug, Args)]
#[command(next_display_order = None)]
pub(super) struct Unsupported {
    /// Other contexts by name, which hull cannot take yet
    #[arg(long, value_name = "NAME=PATH", hide = true)]
    pub(super) build_context: Vec<String>,

    /// Attestations of where an image comes from, which hull does not make
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(super) provenance: Option<String>,

    /// Lists of what is in an image, which hull does not make
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(super) sbom: Option<String>,

    /// Squash newly built layers into a single new layer, which hull cannot yet
    #[arg(long, hide = true)]
    pub(super) squash: bool,
}

/// How a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Bars in a terminal, lines elsewhere.
    Auto,
    /// Lines.
    Plain,
    /// The daemon's messages.
    Json,
    /// The image's ID only.
    Quiet,
}

/// A way to show a build that there is none of.
#[derive(Debug, thiserror::Error)]
#[error("invalid progress mode: '{0}': must be one of \"auto\", \"plain\", \"json\" or \"quiet\"")]
pub(crate) struct ProgressModeError(String);

impl FromStr for Progress {
    type Err = ProgressModeError;

    /// Also takes buildx's names for what is the same.
    fn from_str(text: &str) -> Result<Self, ProgressModeError> {
        match text {
            "auto" | "tty" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "json" | "rawjson" => Ok(Self::Json),
            "quiet" => Ok(Self::Quiet),
            other => Err(ProgressModeError(other.to_owned())),
        }
    }
}

impl Progress {
    /// On which stream, where standard output may have an archive to carry.
    pub(super) fn show(self, stdout_is_taken: bool) -> Show {
        let stream = if stdout_is_taken {
            Stream::Error
        } else {
            Stream::Output
        };
        match self {
            Self::Auto => Show::All(stream),
            Self::Plain => Show::Lines(stream),
            Self::Json => Show::Json(stream),
            Self::Quiet => Show::OnFailure,
        }
    }
}

impl Arguments {
    /// How the build is shown: as the options say, else `BUILDKIT_PROGRESS`.
    pub(super) fn progress(&self) -> Progress {
        if self.quiet {
            return Progress::Quiet;
        }
        let from_environment = || std::env::var("BUILDKIT_PROGRESS").ok()?.parse().ok();
        self.progress.or_else(from_environment).unwrap_or(Progress::Auto)
    }

    /// All that is to be done with the result.
    pub(super) fn outputs(&self) -> Vec<Output> {
        let load = self.load.then(Output::docker);
        let push = self.push.then(Output::registry);
        self.output.iter().cloned().chain(load).chain(push).collect()
    }
}

/// More than no time.
fn parse_time_limit(text: &str) -> Result<Duration, String> {
    match u64::try_from(parse_duration(text)?) {
        Ok(0) | Err(_) => Err("a build needs some time".to_owned()),
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
    }
}

/// `NAME:ADDRESS`, also written `NAME=ADDRESS`, as the API takes it.
fn parse_host(text: &str) -> Result<String, String> {
    let at = text.find(['=', ':']);
    match at.map(|at| (&text[..at], &text[at + 1..])) {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => Ok(format!("{name}:{address}")),
        _ => Err(format!("bad format for add-host: \"{text}\": write NAME:ADDRESS")),
    }
}
