//! The container as a whole: what it is mounted from, limited to and isolated by.

use serde::{Deserialize, Serialize};

use crate::network::Interface;

/// The container of a microVM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The name of its UTS namespace.
    pub hostname: String,
    /// What is mounted as its root.
    pub rootfs: Rootfs,
    /// The directory its processes start in; made where it is missing, also in a root that is read-only from then on.
    /// Empty for `/`.
    pub working_dir: String,
    /// Mounted over the root, in this order, after the standard mounts (`/proc`, `/dev`, `/dev/pts`, `/dev/shm`,
    /// `/dev/mqueue`, `/sys`, `/sys/fs/cgroup`).
    pub mounts: Vec<Mount>,
    /// Files written into the container's root before it starts (`/etc/hosts` and the like), as bind mounts from
    /// memory, so that the image's own are hidden and not changed. [`Call::WriteFiles`](crate::Call::WriteFiles) gives
    /// them other content.
    pub files: Vec<File>,
    /// Sockets that lead to the host, mounted like files.
    pub sockets: Vec<Socket>,
    /// Size of `/dev/shm` in bytes; Docker's default is 64 MiB. 0 leaves it out.
    pub shm_bytes: u64,
    /// What is different from namespaces for pid, mount, UTS, IPC and cgroup.
    pub namespaces: Namespaces,
    /// cgroup v2 limits of all processes together.
    pub limits: Limits,
    /// How fast its processes may use its disk.
    pub io: IoLimits,
    /// `sysctl` values, name with dots or slashes.
    pub sysctls: Vec<(String, String)>,
    /// Devices of the guest that the container has beyond the standard ones.
    pub devices: Devices,
    /// Whether `/sys` and the container's cgroup may be written to.
    pub writable_kernel: bool,
    /// Hidden from the container: a file shows as empty, a directory as an empty read-only one.
    pub masked_paths: Vec<String>,
    /// Visible but not writable.
    pub read_only_paths: Vec<String>,
    /// Its network interfaces beside the loopback. Its network is that of the microVM.
    pub interfaces: Vec<Interface>,
}

/// Devices of the guest for the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Devices {
    /// These, and those that rules allow.
    Some {
        /// With a node each.
        nodes: Vec<Device>,
        /// What further nodes may be opened, if the container makes them.
        rules: Vec<DeviceRule>,
    },
    /// All that the guest has, each with a node.
    All,
}

impl Default for Devices {
    fn default() -> Self {
        Devices::Some {
            nodes: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// A device with a node in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The guest's node, an absolute path in `/dev`.
    pub path: String,
    /// The container's node, an absolute path.
    pub target: String,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// It may be opened to be read.
    pub read: bool,
    /// It may be opened to be written.
    pub write: bool,
    /// Nodes of it may be made. They always may.
    pub make: bool,
}

/// Devices that may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Their kind; `None` is both.
    pub kind: Option<DeviceKind>,
    /// Their driver's number; `None` is every one.
    pub major: Option<u32>,
    /// Their own number with the driver; `None` is every one.
    pub minor: Option<u32>,
    /// What may be done with them.
    pub access: DeviceAccess,
}

/// Kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A stream of bytes.
    Character,
    /// A disk.
    Block,
}

/// What the root file system is stacked from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// The tag of the virtio-fs device that shows the layer files.
    pub layers_tag: String,
    /// Names of the EROFS files on it, the lowest layer first.
    pub layers: Vec<String>,
    /// The serial number of the virtio-blk device with the writable ext4 file system. Without one the writable layer
    /// is kept in memory and is gone with the microVM.
    pub disk: Option<String>,
    /// Whether the container sees its root read-only.
    pub read_only: bool,
}

/// A mount over the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, as an absolute path in the container. Resolved beneath the container's root; missing directories are
    /// made.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// What can be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A folder, or one file in a folder, of the virtio-fs device with the host's folders.
    Shared {
        /// The tag of the device.
        tag: String,
        /// Path on the device without a leading slash: the folder's name, or `name/file`.
        path: String,
    },
    /// An empty tmpfs.
    Tmpfs {
        /// Mount options in the kernel's words, such as `size=64m,mode=1777`.
        options: String,
        /// `noexec` and the like: the flags Docker sets unless told otherwise.
        flags: TmpfsFlags,
    },
}

/// Flags of a tmpfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsFlags {
    /// Programs on it cannot be executed.
    pub no_exec: bool,
    /// Set-user-id bits on it mean nothing.
    pub no_suid: bool,
    /// Device nodes on it mean nothing.
    pub no_dev: bool,
}

/// A small file given to the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where, as an absolute path in the container.
    pub target: String,
    /// Permission bits.
    pub mode: u32,
    /// Its user in the container.
    pub uid: u32,
    /// Its group in the container.
    pub gid: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A Unix socket given to the container. Who connects to it waits for a [`Task::Accept`](crate::Task::Accept) of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Where, as an absolute path in the container.
    pub target: String,
    /// Permission bits: who may write to it may connect.
    pub mode: u32,
    /// Its user in the container.
    pub uid: u32,
    /// Its group in the container.
    pub gid: u32,
}

/// What is different from the standard namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// A user namespace in which the container's root is uid 100000 of the guest.
    pub user: bool,
    /// No cgroup namespace: the container sees where its cgroup is in the guest.
    pub guest_cgroups: bool,
}

/// `io.max` of a disk, a second each; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimits {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// cgroup v2 limits; `None` means no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `memory.max`, in bytes.
    pub memory_bytes: Option<u64>,
    /// `memory.low`, in bytes: what is left to it when others in the guest need memory.
    pub memory_low_bytes: Option<u64>,
    /// `pids.max`.
    pub pids: Option<u64>,
    /// CPU time per 100 ms period, in microseconds (`cpu.max`).
    pub cpu_quota_us: Option<u64>,
    /// `cpu.weight`, 1 to 10000.
    pub cpu_weight: Option<u32>,
    /// `cpuset.cpus`, a bit for each CPU.
    pub cpus: Option<u64>,
}
