//! Spawning a VMM with all it needs.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use guest_protocol::READY_PORT;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use vm_spec::{
    BlkSpec, BootSpec, DeviceSpec, FoldersSpec, GuestPort, LayerFile, LayersSpec, NetSpec, RateLimit,
    Resource, RestoreSpec, SharedFolder, SnapshotSpec, Start, VmSpec, VsockSpec,
};

use crate::cgroup;
use crate::end::EXIT_REPORT;
use crate::shared;
use crate::spec::KERNEL_PARAMETERS;
use crate::template::Template;
use crate::{
    DISK_SERIAL, FOLDERS_TAG, LAYERS_TAG, Result, SandboxError, SandboxSpec, Shape, VMM_LOG, layer_name,
};

/// The context id of every guest: each VMM has a vsock world of its own.
const GUEST_CID: u32 = 3;
/// The first descriptor that is handed over: those before it are the standard streams.
const FIRST_FD: RawFd = 3;
/// Sockets' paths have at most this many bytes (`sun_path` in unix(7), with its end).
const MAX_SOCKET_PATH: usize = 107;

/// The control socket of a VMM, in the runtime folder of its sandbox.
pub(crate) fn control_socket(runtime: &Path) -> PathBuf {
    runtime.join("control.sock")
}

/// The socket that leads to the guest's ports, in the runtime folder of its sandbox.
pub(crate) fn vsock_socket(runtime: &Path) -> PathBuf {
    runtime.join("vsock.sock")
}

/// The socket that the agent's first connection arrives at, in the runtime folder of its sandbox.
fn ready_socket(runtime: &Path) -> PathBuf {
    runtime.join("ready.sock")
}

/// A VMM that was spawned.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Child,
    /// Where a guest that boots announces itself.
    pub(crate) ready: Option<UnixListener>,
}

/// Makes the runtime folder and spawns the VMM; leaves nothing behind if that fails.
pub(crate) fn launch(spec: &SandboxSpec, shape: &Shape, save: Option<&Template>) -> Result<Launched> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&spec.runtime)
        .map_err(SandboxError::file("make the runtime folder", &spec.runtime))?;
    spawn(spec, shape, save).inspect_err(|_| {
        // The error that is about to be told matters more than one from here.
        let _ = spec.own_cgroup().map(|group| cgroup::remove(&group));
        let _ = std::fs::remove_dir_all(&spec.runtime);
    })
}

fn spawn(spec: &SandboxSpec, shape: &Shape, save: Option<&Template>) -> Result<Launched> {
    let ready = match spec.template {
        Some(_) => None,
        None => Some(listen_for_agent(&spec.runtime)?),
    };
    let mut handed = Handed::default();
    let vm = vm_spec(spec, shape, save, &mut handed)?;
    let log = create(&spec.folder.join(VMM_LOG))?;
    let child = Command::new(&spec.vmm)
        .stdin(Stdio::from(spec_file(&vm)?))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "RUST_BACKTRACE" || name == "HULL_VMM_LOG"))
        .current_dir("/")
        // Signals from the terminal of whoever started the daemon are not for containers.
        .process_group(0)
        .fd_mappings(handed.mappings)
        .map_err(|error| SandboxError::Spawn {
            vmm: spec.vmm.clone(),
            source: std::io::Error::other(error),
        })?
        .spawn()
        .map_err(|source| SandboxError::Spawn {
            vmm: spec.vmm.clone(),
            source,
        })?;
    Ok(Launched { child, ready })
}

fn listen_for_agent(runtime: &Path) -> Result<UnixListener> {
    let ready = listen(&ready_socket(runtime))?;
    ready
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(ready))
        .map_err(SandboxError::connection("listen for the agent"))
}

/// The descriptors that the VMM inherits.
#[derive(Default)]
struct Handed {
    mappings: Vec<FdMapping>,
}

impl Handed {
    fn add(&mut self, fd: impl Into<OwnedFd>) -> Resource {
        let child_fd = FIRST_FD + self.mappings.len() as RawFd;
        self.mappings.push(FdMapping {
            parent_fd: fd.into(),
            child_fd,
        });
        Resource::Fd(child_fd)
    }
}

fn vm_spec(
    spec: &SandboxSpec,
    shape: &Shape,
    save: Option<&Template>,
    handed: &mut Handed,
) -> Result<VmSpec> {
    let start = match &spec.template {
        Some(template) => Start::Restore(RestoreSpec {
            snapshot: SnapshotSpec {
                state: handed.add(open(&template.state())?),
                memory: handed.add(open(&template.memory())?),
            },
            copy: template.copies(),
        }),
        None => Start::Boot(BootSpec {
            kernel: handed.add(open(&spec.kernel)?),
            initramfs: handed.add(open(&spec.initramfs)?),
            cmdline: KERNEL_PARAMETERS.into(),
        }),
    };
    let save = save.map(|template| {
        Ok::<_, SandboxError>(SnapshotSpec {
            state: handed.add(create(&template.state())?),
            memory: handed.add(create(&template.memory())?),
        })
    });
    let cgroup = match spec.own_cgroup() {
        Some(group) => {
            let members = cgroup::make(&group, spec.vcpus, spec.memory_mib, shape.folders)?;
            Some(handed.add(members))
        }
        None => None,
    };
    Ok(VmSpec {
        id: spec.id.clone(),
        cgroup,
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        start,
        save: save.transpose()?,
        console: None,
        // The sockets listen before the VMM runs, so that nobody has to wait for it to bind them.
        control: handed.add(listen(&control_socket(&spec.runtime))?),
        exit_report: handed.add(create(&spec.folder.join(EXIT_REPORT))?),
        devices: devices(spec, shape, handed)?,
    })
}

/// The devices of this shape, over what the spec has for them.
fn devices(spec: &SandboxSpec, shape: &Shape, handed: &mut Handed) -> Result<Vec<DeviceSpec>> {
    let mut devices = Vec::new();
    if shape.layers {
        let file = |(n, path): (usize, &PathBuf)| {
            Ok(LayerFile {
                name: layer_name(n),
                file: handed.add(open(path)?),
            })
        };
        let files = spec.layers.iter().enumerate().map(file).collect::<Result<_>>()?;
        devices.push(DeviceSpec::Layers(LayersSpec {
            tag: LAYERS_TAG.into(),
            files,
            // The guest mounts the files, which Linux refuses to do with files in a window.
            dax_window_mib: 0,
        }));
    }
    if shape.folders {
        let folder = |folder: &crate::FolderSpec| {
            Ok(SharedFolder {
                name: folder.name.clone(),
                root: match shared::open(folder)? {
                    Some(root) => handed.add(root),
                    None => Resource::Path(folder.path.clone()),
                },
                read_only: folder.read_only,
            })
        };
        let folders = spec.folders.iter().map(folder).collect::<Result<_>>()?;
        devices.push(DeviceSpec::Folders(FoldersSpec {
            tag: FOLDERS_TAG.into(),
            folders,
        }));
    }
    if let Some(disk) = &spec.disk {
        let file = OpenOptions::new().read(true).write(true).open(disk);
        let file = handed.add(file.map_err(SandboxError::file("open", disk))?);
        devices.push(DeviceSpec::Blk(BlkSpec {
            id: DISK_SERIAL.into(),
            file,
            read_only: false,
        }));
    }
    devices.push(DeviceSpec::Vsock(VsockSpec {
        guest_cid: GUEST_CID,
        listener: handed.add(listen(&vsock_socket(&spec.runtime))?),
        guest_ports: vec![GuestPort {
            port: READY_PORT,
            socket: ready_socket(&spec.runtime),
        }],
    }));
    devices.push(DeviceSpec::Rng);
    devices.extend((0..shape.nics).map(|nic| DeviceSpec::Net(nic_spec(spec, nic))));
    Ok(devices)
}

/// The name of a network device.
pub(crate) fn nic_name(nic: u8) -> String {
    format!("nic{nic}")
}

/// A network device without a cable. Its address and MTU are the agent's to set: who goes on from a template has those of the
/// container that it is for.
fn nic_spec(spec: &SandboxSpec, nic: u8) -> NetSpec {
    NetSpec {
        id: nic_name(nic),
        mac: [0x02, 0, 0, 0, 0, nic],
        mtu: None,
        queue_pairs: spec.nic_queues(),
        taps: Vec::new(),
        receive_limit: RateLimit::default(),
        transmit_limit: RateLimit::default(),
    }
}

/// The spec as a file in memory: the VMM may read it at its own pace, and nobody has to feed a pipe.
fn spec_file(vm: &VmSpec) -> Result<File> {
    let write = || -> std::io::Result<File> {
        let mut file = File::from(memfd_create("vm-spec", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(vm)?)?;
        file.rewind()?;
        Ok(file)
    };
    write().map_err(SandboxError::connection("hand the spec to the VMM"))
}

fn listen(path: &Path) -> Result<std::os::unix::net::UnixListener> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(SandboxError::PathTooLong(path.to_owned()));
    }
    std::os::unix::net::UnixListener::bind(path).map_err(SandboxError::file("listen on", path))
}

pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(SandboxError::file("open", path))
}

fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.map_err(SandboxError::file("create", path))
}
