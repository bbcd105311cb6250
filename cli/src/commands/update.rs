//! `hull update`

use bollard_stubs::models::ContainerUpdateBody;
use clap::Args;

use super::for_each;
use super::limit_options::ResourceOptions;
use super::restart_policy::RestartPolicy;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(next_display_order = None, override_usage = "hull update [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct Arguments {
    #[command(flatten)]
    resources: ResourceOptions,

    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,

    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let resources = arguments.resources;
    let body = ContainerUpdateBody {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        memory: resources.memory,
        memory_reservation: resources.memory_reservation,
        memory_swap: resources.memory_swap,
        nano_cpus: resources.cpus,
        pids_limit: resources.pids_limit,
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
