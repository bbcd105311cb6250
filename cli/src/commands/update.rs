//! `hull update`

use bollard_stubs::models::ContainerUpdateBody;
use clap::Args;

use super::container_spec::parse_cpus;
use super::for_each;
use super::restart_policy::RestartPolicy;
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::format::parse_memory;

#[derive(Debug, Args)]
#[command(override_usage = "hull update [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    /// Limit CPU time per period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,

    /// CPU time per period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,

    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<i64>,

    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = parse_cpus)]
    cpus: Option<i64>,

    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = parse_memory)]
    memory: Option<i64>,

    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,

    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,

    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let body = ContainerUpdateBody {
        cpu_period: arguments.cpu_period,
        cpu_quota: arguments.cpu_quota,
        cpu_shares: arguments.cpu_shares,
        nano_cpus: arguments.cpus,
        memory: arguments.memory,
        pids_limit: arguments.pids_limit,
        restart_policy: arguments.restart.map(Into::into),
        ..ContainerUpdateBody::default()
    };
    for_each(&arguments.containers, async |name| {
        client
            .post_only(Target::new(&["containers", name, "update"]), &body)
            .await?;
        Ok(Some(name.to_owned()))
    })
    .await
}
