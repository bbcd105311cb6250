//! What the engine tells of its containers and of itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ContainerCreate, ContainerNetwork, ContainerState, Health, HealthStatus, PublishedPort, Status, Timeline,
};

/// A container at the moment it was asked for.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The id of its image: `sha256:` and 64 hexadecimal digits.
    pub image_id: String,
    /// What it is, with what the image says merged in.
    pub config: ContainerCreate,
    /// Entrypoint and command: what is executed.
    pub args: Vec<String>,
    /// How it stands.
    pub state: ContainerState,
    /// How well it is; `None` where nothing checks it.
    pub health: Option<Health>,
    /// Its mounts, volumes with their names and places.
    pub mounts: Vec<MountPoint>,
    /// Its log file on the host.
    pub log_path: std::path::PathBuf,
    /// Its writable disk on the host.
    pub disk_path: std::path::PathBuf,
    /// Ids of the processes that were made in it with exec and are still known.
    pub exec_ids: Vec<String>,
    /// The memory of its microVM in MiB, and its vCPUs.
    pub vm: VmSize,
    /// When the steps of its last start and end were done.
    pub timeline: Timeline,
    /// Its networks, by name.
    pub networks: BTreeMap<String, ContainerNetwork>,
    /// Its ports that are published while it runs.
    pub published: Vec<PublishedPort>,
}

/// The size of a microVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSize {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Its kind.
    pub kind: MountKind,
    /// The volume's name; empty for other kinds.
    pub name: String,
    /// The path on the host; empty for a tmpfs.
    pub source: std::path::PathBuf,
    /// The path in the container.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Options of a tmpfs.
    pub options: String,
    /// Whether a volume that is empty gets what the image has in its place.
    #[serde(default)]
    pub copy: bool,
    /// The path in the volume that is mounted; empty for all of it.
    #[serde(default)]
    pub subpath: String,
    /// Whether what is mounted below the source on the host is left out.
    #[serde(default)]
    pub non_recursive: bool,
}

/// Kinds of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A folder or file of the host.
    Bind,
    /// A volume.
    Volume,
    /// A file system in memory.
    Tmpfs,
}

/// Which containers [`Engine::list`](crate::Engine::list) answers. Values of one field are alternatives; fields
/// narrow each other; an empty field does not narrow.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Whether those that do not run are listed, too. Given statuses or exit codes ask for it by themselves.
    pub all: bool,
    /// At most this many, the newest, whether they run or not.
    pub limit: Option<usize>,
    /// Prefixes of ids.
    pub ids: Vec<String>,
    /// What a name, with or without a slash in front, has in it.
    pub names: Vec<regex::Regex>,
    /// Statuses.
    pub statuses: Vec<Status>,
    /// Healths; `None` is that of containers that nothing checks.
    pub healths: Vec<Option<HealthStatus>>,
    /// Exit codes of containers that ran.
    pub exit_codes: Vec<i32>,
    /// `key` or `key=value`; all of them must match.
    pub labels: Vec<String>,
    /// Images, by name or id, that the container was made from.
    pub images: Vec<String>,
    /// Names, ids or paths of mounts.
    pub volumes: Vec<String>,
    /// Only those made before this container.
    pub before: Option<String>,
    /// Only those made after this container.
    pub since: Option<String>,
}

/// The engine as a whole.
#[derive(Clone, Debug)]
pub struct Info {
    /// An id of this engine that stays the same as long as its state is there.
    pub id: String,
    /// The state root.
    pub root: std::path::PathBuf,
    /// The folder of sockets and templates.
    pub runtime: std::path::PathBuf,
    /// The folder of hull's programs and the guest's kernel.
    pub lib: std::path::PathBuf,
    /// Containers that run.
    pub running: usize,
    /// Containers that are paused.
    pub paused: usize,
    /// Containers that do neither.
    pub stopped: usize,
    /// Images.
    pub images: usize,
    /// Who listens to events.
    pub listeners: usize,
    /// CPUs of the host.
    pub cpus: usize,
    /// Memory of the host in bytes.
    pub memory_bytes: u64,
    /// The host's own name.
    pub host_name: String,
    /// The host's kernel release.
    pub kernel: String,
    /// The host's machine architecture in the kernel's words, such as `x86_64`.
    pub machine: String,
    /// The host's operating system for people, from os-release.
    pub operating_system: String,
    /// The kernel that microVMs boot: its release.
    pub guest_kernel: Option<String>,
    /// The control group that microVMs have theirs in, or why they have none.
    pub cgroup: Result<std::path::PathBuf, String>,
    /// The engine's own version.
    pub version: &'static str,
}
