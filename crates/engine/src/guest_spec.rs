//! From a container to what its agent is asked for.

use sandbox::{
    ContainerSpec, DISK_SERIAL, Devices, FolderSpec, LAYERS_TAG, Namespaces, ProcessSpec, Rootfs, Seccomp,
    WindowSize, layer_name,
};

use crate::cpuset::CpuSet;
use crate::folder::ContainerRecord;
use crate::networks::{Attached, Cable};
use crate::volumes::Fill;
use crate::{
    ClientFiles, ContainerCreate, EngineError, ExecCreate, IpcMode, Result, capabilities, ids, limits, merge,
    mounts, network_files, seccomp,
};

/// The id of a container's init in its microVM.
pub(crate) const INIT: sandbox::ProcessId = 1;

/// Docker's size of `/dev/shm`.
const SHM_BYTES: u64 = 64 << 20;

/// Docker's list of paths that tell of, or reach, the kernel beneath.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Docker's list of paths that change it.
pub const READ_ONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What the agent is asked for.
#[derive(Clone, Debug)]
pub(crate) struct GuestSpec {
    pub(crate) container: ContainerSpec,
    pub(crate) init: ProcessSpec,
    /// The host's folders that the container needs.
    pub(crate) folders: Vec<FolderSpec>,
    /// Volumes that are filled before the init starts.
    pub(crate) fills: Vec<Fill>,
    /// What its network devices are plugged into.
    pub(crate) cables: Vec<Cable>,
}

/// The container and its init.
pub(crate) fn guest_spec(
    record: &ContainerRecord,
    files: &ClientFiles,
    fills: Vec<Fill>,
    attached: Attached,
) -> Result<GuestSpec> {
    let config = &record.config;
    let hostname = hostname(record);
    let (folders, mounts) = mounts::realize(&record.mounts, files, &fills)?;
    let container = ContainerSpec {
        rootfs: Rootfs {
            layers_tag: LAYERS_TAG.into(),
            layers: (0..record.layers.len()).map(layer_name).collect(),
            disk: Some(DISK_SERIAL.into()),
            read_only: config.read_only,
        },
        working_dir: config.working_dir.clone(),
        mounts,
        files: network_files::files(config, &hostname, &attached.addressing),
        sockets: Vec::new(),
        interfaces: attached.interfaces,
        shm_bytes: match (config.ipc, config.shm_bytes) {
            (IpcMode::None, _) => 0,
            (_, 0) => SHM_BYTES,
            (_, bytes) => bytes,
        },
        namespaces: Namespaces {
            user: false,
            guest_cgroups: config.guest_cgroups,
        },
        // Only as many are asked for as the microVM has.
        limits: limits::limits(
            &config.resources,
            CpuSet::parse(&config.cpuset_cpus, usize::from(record.vm.vcpus))?,
        ),
        io: config.io,
        sysctls: config
            .sysctls
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        devices: match config.privileged {
            true => Devices::All,
            false => Devices::Some {
                nodes: config.devices.clone(),
                rules: config.device_rules.clone(),
            },
        },
        writable_kernel: config.privileged,
        masked_paths: or_standard(config, &config.masked_paths, MASKED_PATHS),
        read_only_paths: or_standard(config, &config.read_only_paths, READ_ONLY_PATHS),
        hostname,
    };
    Ok(GuestSpec {
        container,
        init: init(record)?,
        folders,
        fills,
        cables: attached.cables,
    })
}

/// The host name: the one asked for, or the short id.
pub(crate) fn hostname(record: &ContainerRecord) -> String {
    match record.config.hostname.as_str() {
        "" => ids::short(&record.id).to_owned(),
        name => name.to_owned(),
    }
}

/// The container's init.
pub(crate) fn init(record: &ContainerRecord) -> Result<ProcessSpec> {
    let config = &record.config;
    Ok(ProcessSpec {
        id: INIT,
        args: record.args.clone(),
        env: environment(record, config.terminal, &[]),
        cwd: or_root(&config.working_dir),
        user: config.user.clone(),
        init: config.init,
        stdin: config.open_stdin,
        terminal: config.terminal.then(WindowSize::default),
        oom_score_adj: config.oom_score_adj,
        ..process(config)?
    })
}

/// A further process.
pub(crate) fn exec(
    record: &ContainerRecord,
    create: &ExecCreate,
    id: sandbox::ProcessId,
    size: Option<WindowSize>,
) -> Result<ProcessSpec> {
    let config = &record.config;
    if !create.working_dir.is_empty() && !create.working_dir.starts_with('/') {
        return Err(crate::EngineError::Exec("Cwd must be an absolute path".into()));
    }
    let or_container = |mine: &str, container: &str| match mine {
        "" => container.to_owned(),
        mine => mine.to_owned(),
    };
    let mut process = process(config)?;
    if create.privileged {
        process.capabilities = capabilities::all();
    }
    Ok(ProcessSpec {
        id,
        args: create.args.clone(),
        env: environment(record, create.terminal, &create.env),
        cwd: or_root(&or_container(&create.working_dir, &config.working_dir)),
        user: or_container(&create.user, &config.user),
        stdin: create.attach_stdin,
        terminal: create.terminal.then(|| size.unwrap_or_default()),
        ..process
    })
}

/// What every process of a container has.
fn process(config: &ContainerCreate) -> Result<ProcessSpec> {
    Ok(ProcessSpec {
        groups: config.groups.clone(),
        capabilities: capabilities(config)?,
        rlimits: config.rlimits.clone(),
        no_new_privileges: config.no_new_privileges,
        seccomp: seccomp(config)?,
        ..ProcessSpec::default()
    })
}

fn capabilities(config: &ContainerCreate) -> Result<Vec<String>> {
    match config.privileged {
        true => Ok(capabilities::all()),
        false => capabilities::resolve(&config.cap_add, &config.cap_drop),
    }
}

/// Which system calls its processes may make. A profile of its own holds for a privileged one, too.
pub(crate) fn seccomp(config: &ContainerCreate) -> Result<Seccomp> {
    match &config.seccomp_profile {
        _ if config.seccomp_unconfined => Ok(Seccomp::Unconfined),
        Some(profile) => seccomp::program(profile, &capabilities(config)?)
            .map(Seccomp::Program)
            .map_err(|error| EngineError::Invalid(error.to_string())),
        None if config.privileged => Ok(Seccomp::Unconfined),
        None => Ok(Seccomp::Standard),
    }
}

/// Docker's own variables, the container's over them, and those asked for over all.
fn environment(record: &ContainerRecord, terminal: bool, over: &[String]) -> Vec<String> {
    let mut env = vec![format!("HOSTNAME={}", hostname(record))];
    if terminal {
        env.push("TERM=xterm".into());
    }
    merge::overlay(&mut env, &record.config.env);
    merge::overlay(&mut env, over);
    env
}

fn or_root(folder: &str) -> String {
    if folder.is_empty() {
        "/".into()
    } else {
        folder.into()
    }
}

/// From a privileged container nothing is kept that nobody asked to keep from it.
fn or_standard(config: &ContainerCreate, asked: &Option<Vec<String>>, standard: &[&str]) -> Vec<String> {
    match asked {
        Some(asked) => asked.clone(),
        None if config.privileged => Vec::new(),
        None => standard.iter().map(|path| (*path).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::VmSize;

    fn record(config: ContainerCreate) -> ContainerRecord {
        ContainerRecord {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            created: Timestamp::UNIX_EPOCH,
            image_id: "sha256:0".into(),
            layers: vec!["/a".into(), "/b".into()],
            config,
            args: vec!["sh".into()],
            mounts: Vec::new(),
            nameless_volumes: Vec::new(),
            vm: VmSize::default(),
            blank_disk_bytes: None,
        }
    }

    #[test]
    fn a_plain_container_is_dockers() {
        let spec = guest_spec(
            &record(ContainerCreate::default()),
            &ClientFiles::default(),
            Vec::new(),
            Attached::default(),
        )
        .unwrap();
        assert_eq!(spec.container.hostname, "0123456789ab");
        assert_eq!(spec.container.rootfs.layers, ["0.erofs", "1.erofs"]);
        assert!(spec.container.masked_paths.contains(&"/proc/kcore".into()));
        assert_eq!(spec.init.capabilities.len(), 14);
        assert_eq!(spec.init.cwd, "/");
        assert!(spec.init.seccomp == Seccomp::Standard && !spec.init.stdin && spec.init.terminal.is_none());
        assert_eq!(spec.init.env, ["HOSTNAME=0123456789ab"]);
    }

    #[test]
    fn an_exec_takes_what_it_does_not_say_from_its_container() {
        let config = ContainerCreate {
            env: vec!["A=1".into(), "TERM=vt100".into()],
            working_dir: "/srv".into(),
            user: "web".into(),
            ..ContainerCreate::default()
        };
        let create = ExecCreate {
            terminal: true,
            env: vec!["A=2".into()],
            user: "root".into(),
            ..ExecCreate::default()
        };
        let size = WindowSize { rows: 3, columns: 4 };
        let spec = exec(&record(config), &create, 9, Some(size)).unwrap();
        assert_eq!(spec.env, ["HOSTNAME=0123456789ab", "TERM=vt100", "A=2"]);
        assert_eq!((spec.user.as_str(), spec.cwd.as_str()), ("root", "/srv"));
        assert_eq!((spec.id, spec.terminal), (9, Some(size)));
    }
}
