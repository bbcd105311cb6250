//! What a container is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    Device, DeviceRule, EndpointConfig, HealthCheck, IoLimits, LogSpec, PortBinding, RestartPolicy, Rlimit,
};

/// A container to create. `Default` is what `run IMAGE` without any option asks for.
///
/// The same type is kept on disk and answered by [`Engine::inspect`](crate::Engine::inspect), with what the image says
/// merged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerCreate {
    /// Its name without a leading slash; `None` has one made up.
    pub name: Option<String>,
    /// The image, as the user named it.
    pub image: String,
    /// What takes the place of the image's entrypoint; `Some` of nothing clears it.
    pub entrypoint: Option<Vec<String>>,
    /// What takes the place of the image's command.
    pub command: Option<Vec<String>>,
    /// `NAME=value` to set, `NAME` to take away what the image sets.
    pub env: Vec<String>,
    /// The working directory; empty is the image's, or `/`.
    pub working_dir: String,
    /// `user[:group]`, names or numbers; empty is the image's.
    pub user: String,
    /// Further groups of the process, names or numbers.
    pub groups: Vec<String>,
    /// The host name; empty is the first 12 characters of the id.
    pub hostname: String,
    /// The domain behind the host name.
    pub domain_name: String,
    /// Labels, over those of the image.
    pub labels: BTreeMap<String, String>,
    /// Ports the image or the user names, such as `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// Whether the process has a terminal.
    pub terminal: bool,
    /// Whether the process has a stdin.
    pub open_stdin: bool,
    /// Whether that stdin ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// What the creator said it would attach to. Kept for inspection; nothing depends on it.
    pub attach: AttachFlags,
    /// How to tell whether it is well, over what the image says.
    pub health: HealthCheck,
    /// What health checks in shell form are run with; empty is the image's, or `/bin/sh -c`.
    pub shell: Vec<String>,
    /// The signal that asks the container to stop: a name or a number. Empty is the image's, or SIGTERM.
    pub stop_signal: String,
    /// Seconds from the stop signal to SIGKILL; `None` is 10.
    pub stop_timeout: Option<u32>,
    /// Whether the container is removed when it ends.
    pub auto_remove: bool,
    /// Whether it is started again when it ends.
    pub restart: RestartPolicy,
    /// Whether it runs a step of a build: nobody sees it, and it is gone with its engine.
    pub of_build: bool,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Whether a minimal init runs as its PID 1.
    pub init: bool,
    /// Whether it has every capability and device of its microVM.
    pub privileged: bool,
    /// Devices of its microVM that it may use.
    pub devices: Vec<Device>,
    /// What further nodes it may open, if it makes them.
    pub device_rules: Vec<DeviceRule>,
    /// Capabilities beyond the standard ones, with or without `CAP_`, or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken away, with or without `CAP_`, or `ALL`.
    pub cap_drop: Vec<String>,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Whether Docker's default seccomp profile is left out.
    pub seccomp_unconfined: bool,
    /// A seccomp profile that takes its place, as JSON.
    pub seccomp_profile: Option<String>,
    /// What is mounted over the root.
    pub mounts: Vec<MountCreate>,
    /// Paths that the image or the user wants a volume without a name at, where nothing else is mounted.
    pub volumes: BTreeSet<String>,
    /// Containers whose mounts it has, too.
    pub volumes_from: Vec<VolumesFrom>,
    /// Size of `/dev/shm` in bytes; 0 is 64 MiB.
    pub shm_bytes: u64,
    /// What it may use.
    pub resources: Resources,
    /// How fast it may use its disk.
    pub io: IoLimits,
    /// Whether it is to be held rather than ended at its memory limit, which cgroup v2 cannot.
    pub oom_kill_disable: bool,
    /// Resource limits of its processes.
    pub rlimits: Vec<Rlimit>,
    /// Kernel parameters of its namespaces, names with dots.
    pub sysctls: BTreeMap<String, String>,
    /// Further lines of `/etc/hosts`, `name:address` each.
    pub extra_hosts: Vec<String>,
    /// Name servers in `/etc/resolv.conf`; none takes those of the host.
    pub dns: Vec<String>,
    /// Search domains in `/etc/resolv.conf`.
    pub dns_search: Vec<String>,
    /// Options in `/etc/resolv.conf`.
    pub dns_options: Vec<String>,
    /// `oom_score_adj` of its init.
    pub oom_score_adj: i32,
    /// Paths that are hidden; `None` is Docker's list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that are read-only; `None` is Docker's list.
    pub read_only_paths: Option<Vec<String>>,
    /// Whether it has no network but its loopback.
    pub no_network: bool,
    /// The network that it is in first: its name or id; empty or `default` is the one of containers whose creators name none.
    pub network: String,
    /// What is asked of its places in networks, by their names; those that are not the one above are further ones.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// Whether it was taken out of networks since, so that it may be in none at all.
    pub left_networks: bool,
    /// Other containers that it finds in the network of containers whose creators name none: `NAME` or `NAME:ALIAS`.
    pub links: Vec<String>,
    /// Ports that are published on the host.
    pub ports: Vec<PortBinding>,
    /// Whether all ports that it exposes are.
    pub publish_all: bool,
    /// How its log is kept.
    pub log: LogSpec,
    /// Which CPUs it may use, such as `0-2,5`; empty is all. The microVM gets as many as the last one needs.
    pub cpuset_cpus: String,
    /// Which nodes of memory it may use; a microVM has the one with the number 0.
    pub cpuset_mems: String,
    /// What others say about it, kept for inspection. `hull.egress` is the container's [egress policy](network::EgressPolicy);
    /// nothing depends on the others.
    pub annotations: BTreeMap<String, String>,
    /// What memory it shares between processes.
    pub ipc: IpcMode,
    /// Whether it sees where its cgroup is in its microVM.
    pub guest_cgroups: bool,
    /// Whether somebody asked for the users of the microVM, which every container has.
    pub guest_users: bool,
    /// Options of its writable disk: `size`, such as `10G`.
    pub storage: BTreeMap<String, String>,
}

/// What a container's processes may share memory with. Nobody can join another microVM, so it is they alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpcMode {
    /// Each other.
    #[default]
    Private,
    /// Each other; others were to be let in.
    Shareable,
    /// Each other, without a `/dev/shm`.
    None,
}

/// Which streams the creator said it would attach to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachFlags {
    /// Its stdin.
    pub stdin: bool,
    /// Its stdout.
    pub stdout: bool,
    /// Its stderr.
    pub stderr: bool,
}

/// Limits; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory in bytes, at least 6 MiB. The microVM gets as much and what its kernel needs on top.
    pub memory_bytes: u64,
    /// What is left to it when others in its microVM need memory, in bytes.
    pub memory_reservation_bytes: u64,
    /// Memory and swap in bytes, -1 for as much as there is. A microVM has no swap, so it changes nothing.
    pub memory_swap_bytes: i64,
    /// CPU time in billionths of a CPU. The microVM gets as many vCPUs as that needs.
    pub nano_cpus: u64,
    /// CPU time in microseconds of each period, in place of the above.
    pub cpu_quota_us: u64,
    /// The period in microseconds; 0 is 100 ms.
    pub cpu_period_us: u64,
    /// Weight of its CPU time, 2 to 262144, as in cgroup v1; 1024 is usual.
    pub cpu_shares: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountCreate {
    /// What is mounted.
    pub source: MountSource,
    /// Where: an absolute path in the container.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// What can be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A folder or file of the host.
    Bind {
        /// Its absolute path.
        path: PathBuf,
        /// Whether a missing one is made, as a folder (what `-v` does, and `--mount` does not).
        create: bool,
        /// Whether what is mounted below it on the host is left out.
        #[serde(default)]
        non_recursive: bool,
    },
    /// A volume, made when it is missing; `None` has a name made up and goes with the container.
    Volume {
        /// Its name.
        name: Option<String>,
        /// Labels of one that is made.
        #[serde(default)]
        labels: BTreeMap<String, String>,
        /// Whether an empty one stays empty, whatever the image has in its place.
        #[serde(default)]
        no_copy: bool,
        /// The path in it that is mounted, which must be there; empty for all of it.
        #[serde(default)]
        subpath: String,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Mount options separated by commas, such as `size=64m,mode=1777,exec`.
        options: String,
    },
}

impl MountSource {
    /// A volume that goes with its container.
    pub fn nameless_volume() -> MountSource {
        MountSource::Volume {
            name: None,
            labels: BTreeMap::new(),
            no_copy: false,
            subpath: String::new(),
        }
    }
}

/// A container whose mounts another one has, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// Its name or id.
    pub container: String,
    /// Whether they are read-only in the other one.
    pub read_only: bool,
}

/// What [`Engine::create`](crate::Engine::create) made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// What was asked for and will not be so.
    pub warnings: Vec<String>,
}
