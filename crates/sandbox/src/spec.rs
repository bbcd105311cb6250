//! What a sandbox is to be.

use std::path::PathBuf;
use std::time::Duration;

use vm_spec::MAX_QUEUE_PAIRS;

use crate::{Result, SandboxError, Template};

/// The tag of the virtio-fs device with the layer files.
pub const LAYERS_TAG: &str = "layers";
/// The tag of the virtio-fs device with the host's folders.
pub const FOLDERS_TAG: &str = "folders";
/// The serial number of the virtio-blk device with the writable layer.
pub const DISK_SERIAL: &str = "disk";
/// The name of the VMM's log in [`SandboxSpec::folder`].
pub const VMM_LOG: &str = "vmm.log";

/// Kernel parameters of every microVM, beyond those the VMM adds for its devices. A panic is a reset, which ends the VMM.
/// Nothing is printed, because there is no console. The host's entropy is trusted from the first moment. The rest is time
/// that nobody gets anything for: self-tests, a timer that is checked, RCU's patience, the patching of every lock in the
/// kernel for a single CPU (a sixth of a boot), loop devices before they are asked for; and memory: what is kept per CPU grows by
/// pages, and not by 2 MiB with 4 MiB to account for them, which network devices need and each start from a template would copy.
pub(crate) const KERNEL_PARAMETERS: &str = "quiet loglevel=0 panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests \
    no_timer_check rcupdate.rcu_expedited=1 noreplace-smp max_loop=0 dummy.numdummies=0 percpu_alloc=page";

/// The name of the n-th layer file in the guest's layers directory, the lowest layer being 0.
pub fn layer_name(n: usize) -> String {
    format!("{n}.erofs")
}

/// A microVM to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Names it in logs and process titles.
    pub id: String,
    /// The `hull-vmm` to run.
    pub vmm: PathBuf,
    /// The guest kernel, an ELF file.
    pub kernel: PathBuf,
    /// The initramfs with the agent.
    pub initramfs: PathBuf,
    /// A folder to make for its sockets; it is removed with everything in it when the microVM has ended. At most
    /// 90 bytes long, for a socket's path has at most 107.
    pub runtime: PathBuf,
    /// An existing folder for its log and its exit report, which stay.
    pub folder: PathBuf,
    /// The [control group](crate::open_cgroup) to make its own in, which is called as its runtime folder is; `None` leaves it
    /// unbounded on the host.
    pub cgroup: Option<PathBuf>,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// EROFS files of the layers, the lowest first; the guest sees them under their [`layer_name`].
    pub layers: Vec<PathBuf>,
    /// The file behind the writable disk.
    pub disk: Option<PathBuf>,
    /// Folders of the host.
    pub folders: Vec<FolderSpec>,
    /// How many network devices it has. None has a cable until [one is plugged in](crate::Sandbox::plug).
    pub nics: u8,
    /// How long the agent may take to come up.
    pub boot_timeout: Duration,
    /// What it goes on from instead of booting the kernel.
    pub template: Option<Template>,
}

/// What a guest cannot change while it runs: microVMs of one shape can go on from one template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Whether there is a device with layer files.
    pub layers: bool,
    /// Whether there is a device with folders of the host.
    pub folders: bool,
    /// The length of the writable disk in bytes.
    pub disk: Option<u64>,
    /// How many network devices there are.
    pub nics: u8,
}

impl SandboxSpec {
    /// How many queues the TAP device of each of its network devices has.
    pub fn nic_queues(&self) -> u16 {
        u16::from(self.vcpus).clamp(1, MAX_QUEUE_PAIRS)
    }

    /// Its own control group.
    pub(crate) fn own_cgroup(&self) -> Option<PathBuf> {
        Some(self.cgroup.as_ref()?.join(self.runtime.file_name()?))
    }

    /// Its shape; looks at the disk.
    pub fn shape(&self) -> Result<Shape> {
        let length = |disk: &PathBuf| {
            let metadata = std::fs::metadata(disk).map_err(SandboxError::file("look at", disk))?;
            Ok::<_, SandboxError>(metadata.len())
        };
        Ok(Shape {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            layers: !self.layers.is_empty(),
            folders: !self.folders.is_empty(),
            disk: self.disk.as_ref().map(length).transpose()?,
            nics: self.nics,
        })
    }
}

/// A folder of the host that the guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderSpec {
    /// Its name in the guest: one path component.
    pub name: String,
    /// The folder, or file, on the host.
    pub path: PathBuf,
    /// What of it the guest gets: a relative path that nothing in the folder can lead out of it. Empty for all of it.
    pub beneath: PathBuf,
    /// Whether what is mounted below it is seen, too.
    pub recursive: bool,
    /// Whether the device refuses to change it.
    pub read_only: bool,
}
