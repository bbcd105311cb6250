//! What a microVM is to be ([`VmSpec`]), how to speak to its VMM while it runs ([`control`]), and how it ended
//! ([`ExitReport`]).
//!
//! The spec is JSON on the standard input of `hull-vmm`. Everything the VMM opens is named here, as an inherited
//! descriptor or as a path, and nothing else: a jail can be drawn around exactly this list.

pub mod control;

use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The smallest memory a microVM can boot with, in MiB.
pub const MIN_MEMORY_MIB: u64 = 32;

/// The most vCPUs a microVM can have.
pub const MAX_VCPUS: u8 = 64;

/// The most pairs of queues a network device can have.
pub const MAX_QUEUE_PAIRS: u16 = 8;

/// Something the VMM may use: open already, or named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// A descriptor the VMM inherits under this number, and owns from then on.
    Fd(RawFd),
    /// A path in the VMM's own mount namespace.
    Path(PathBuf),
}

/// A microVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VmSpec {
    /// Names the microVM in its log.
    pub id: String,
    /// A `cgroup.procs`, open for writing: the VMM joins this control group before it does anything else.
    #[serde(default)]
    pub cgroup: Option<Resource>,
    /// Number of vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// Guest memory in MiB, at least [`MIN_MEMORY_MIB`].
    pub memory_mib: u64,
    /// What its vCPUs begin with.
    pub start: Start,
    /// Where [`control::Request::Save`] writes a VM snapshot; without it there is none to be had.
    #[serde(default)]
    pub save: Option<SnapshotSpec>,
    /// Where the serial console's output goes; without it the guest has no console.
    pub console: Option<Resource>,
    /// The listening unix socket of [`control`]; a path is bound by the VMM.
    pub control: Resource,
    /// A file that receives one [`ExitReport`] as JSON before the VMM exits. Empty afterwards means that the VMM was
    /// killed.
    pub exit_report: Resource,
    /// Devices in the order of their slots.
    pub devices: Vec<DeviceSpec>,
}

/// What the vCPUs of a microVM begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// A kernel, from its first instruction.
    Boot(BootSpec),
    /// A guest, from where a VM snapshot of it was taken. The snapshot is the host's own: what it holds is checked for
    /// damage, not for malice. Number of vCPUs, memory and devices are those it was taken with; the files, disks, sockets
    /// and folders behind the devices are this spec's.
    Restore(RestoreSpec),
}

/// A guest to go on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RestoreSpec {
    /// Where it was.
    pub snapshot: SnapshotSpec,
    /// Whether memory that guests write to is copied into huge pages, instead of being mapped from the file and copied
    /// page by page when it is written to. The first pays where a page fault costs much.
    pub copy: bool,
}

/// A kernel and what it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootSpec {
    /// An ELF kernel (`vmlinux`).
    pub kernel: Resource,
    /// An uncompressed initramfs.
    pub initramfs: Resource,
    /// Kernel parameters beyond those the VMM adds for its own devices.
    pub cmdline: String,
}

/// A VM snapshot: two files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SnapshotSpec {
    /// The state of vCPUs, interrupt controllers and devices.
    pub state: Resource,
    /// Guest memory. A microVM that goes on from it maps it privately for as long as it runs: the file must not change.
    pub memory: Resource,
}

/// A virtio device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceSpec {
    /// virtio-fs over a flat, immutable, read-only directory of layer files.
    Layers(LayersSpec),
    /// virtio-fs over host folders, each a directory at the root of the file system.
    Folders(FoldersSpec),
    /// A disk.
    Blk(BlkSpec),
    /// A network interface.
    Net(NetSpec),
    /// vsock, its guest ports joined to unix sockets.
    Vsock(VsockSpec),
    /// Entropy from the host.
    Rng,
}

/// A read-only virtio-fs device that shows just the files it was handed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayersSpec {
    /// The tag the guest mounts.
    pub tag: String,
    /// The files of the directory.
    pub files: Vec<LayerFile>,
    /// Size of the DAX window in MiB, an even number; 0 for none. It serves files that the guest reads from a mount with
    /// `dax=always`; Linux refuses an EROFS mount on such a file, so layers that are mounted want none.
    pub dax_window_mib: u64,
}

/// One file of a [`LayersSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerFile {
    /// Its name in the directory: one path component.
    pub name: String,
    /// Its content.
    pub file: Resource,
}

/// A virtio-fs device over host folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FoldersSpec {
    /// The tag the guest mounts.
    pub tag: String,
    /// The folders; the guest sees each under its name, and nothing above it.
    pub folders: Vec<SharedFolder>,
}

/// One folder of a [`FoldersSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SharedFolder {
    /// Its name at the root of the file system: one path component.
    pub name: String,
    /// The folder on the host, or a single regular file: then the guest sees a file of this name, and nothing beside it.
    /// As a descriptor, `O_PATH` is enough.
    pub root: Resource,
    /// Whether the device itself refuses to change it, whatever the guest mounts.
    pub read_only: bool,
}

/// A virtio-blk device over a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BlkSpec {
    /// The serial number the guest reads: at most 20 bytes.
    pub id: String,
    /// A file or block device whose length is a multiple of 512.
    pub file: Resource,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A virtio-net device over a TAP device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetSpec {
    /// Names the device; the guest does not see it.
    pub id: String,
    /// The address that the guest reads, and may use or not.
    pub mac: [u8; 6],
    /// The MTU that the guest is told, 68 or more; without it, the guest may choose.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Pairs of queues, 1 to [`MAX_QUEUE_PAIRS`]; more than the guest has vCPUs do not help.
    pub queue_pairs: u16,
    /// The host's end: one queue of the TAP device (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR; IFF_MULTI_QUEUE for several) for each pair.
    /// None at all: the guest sees a port without a cable.
    pub taps: Vec<Resource>,
    /// What the guest may receive.
    #[serde(default)]
    pub receive_limit: RateLimit,
    /// What it may send.
    #[serde(default)]
    pub transmit_limit: RateLimit,
}

/// The limits of one direction of a network device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RateLimit {
    /// Bytes of frames, with a header of 12 bytes each.
    pub bytes: Option<Rate>,
    /// Frames, which are up to 64 KiB where segmentation is offloaded.
    pub frames: Option<Rate>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rate {
    /// How much passes in a second in the long run; 0 counts as 1.
    pub per_second: u64,
    /// How much passes at once after a rest; 0 counts as 1.
    pub burst: u64,
}

/// A virtio-vsock device.
///
/// From host to guest: a client connects to `listener`, writes `CONNECT <port>\n`, reads `OK <port>\n` once the guest
/// has accepted, and has a byte stream with half-close from then on; its first bytes may come along with the greeting.
/// A refusal closes the connection.
/// From guest to host: a connection to CID 2 and one of `guest_ports` is joined to that port's unix socket; any other
/// port is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VsockSpec {
    /// The guest's context id, 3 or more.
    pub guest_cid: u32,
    /// The listening unix socket; a path is bound by the VMM.
    pub listener: Resource,
    /// Ports on the host that the guest may connect to.
    pub guest_ports: Vec<GuestPort>,
}

/// One port of a [`VsockSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GuestPort {
    /// The port number.
    pub port: u32,
    /// The path of the unix socket that is connected to.
    pub socket: PathBuf,
}

/// How a microVM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExitReport {
    /// The kind of ending.
    pub reason: ExitReason,
    /// What a person should know about it; empty where the reason says all.
    pub detail: String,
}

/// The kinds of ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// The guest powered itself off.
    Shutdown,
    /// The guest reset itself (a kernel panic ends so, too).
    Reset,
    /// A control client asked for it.
    Stopped,
    /// SIGTERM or SIGINT.
    Signal,
    /// KVM could not go on with the guest: a triple fault, an instruction it cannot emulate.
    GuestFault,
    /// The VMM could not build or run the microVM.
    VmmError,
}
