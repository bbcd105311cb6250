//! The options about what a container shares with whom, and what runs it.

use bollard_stubs::models::{HostConfig, HostConfigCgroupnsModeEnum, HostConfigIsolationEnum};
use clap::Args;
use clap::builder::PossibleValuesParser;

/// Namespaces and runtimes. What only one kernel for all could give is refused by the daemon, which says why.
#[derive(Debug, Args)]
pub(super) struct NamespaceOptions {
    /// Optional parent cgroup for the container, which is in its microVM
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,

    /// Cgroup namespace to use ("host" is that of the microVM, "private")
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["host", "private"]), hide_possible_values = true)]
    cgroupns: Option<String>,

    /// IPC mode to use ("private", "shareable", "none")
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,

    /// Container isolation technology ("default")
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(["default", "process", "hyperv"]), hide_possible_values = true)]
    isolation: Option<String>,

    /// PID namespace to use ("private")
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,

    /// Runtime to use for this container ("hull")
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,

    /// User namespace to use ("host" is that of the microVM)
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,

    /// UTS namespace to use
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
}

impl NamespaceOptions {
    /// Adds what the daemon is told of them.
    pub(super) fn apply(&self, host: &mut HostConfig) {
        host.cgroup_parent = self.cgroup_parent.clone();
        host.cgroupns_mode = self.cgroupns.as_deref().map(|mode| match mode {
            "host" => HostConfigCgroupnsModeEnum::HOST,
            _ => HostConfigCgroupnsModeEnum::PRIVATE,
        });
        host.ipc_mode = self.ipc.clone();
        host.isolation = self.isolation.as_deref().map(|isolation| match isolation {
            "process" => HostConfigIsolationEnum::PROCESS,
            "hyperv" => HostConfigIsolationEnum::HYPERV,
            _ => HostConfigIsolationEnum::DEFAULT,
        });
        host.pid_mode = self.pid.clone();
        host.runtime = self.runtime.clone();
        host.userns_mode = self.userns.clone();
        host.uts_mode = self.uts.clone();
    }
}
