//! The checks on a spec that need nothing but the spec and the host's memory size.

use std::collections::BTreeSet;
use std::io::Read;

use thiserror::Error;
use vm_spec::{DeviceSpec, MAX_VCPUS, MIN_MEMORY_MIB, Resource, RestoreSpec, Start, VmSpec};

use crate::arch::layout::DEVICE_IRQS;

/// The longest spec, in bytes: a few hundred layer files with long names.
const MAX_SPEC: u64 = 1 << 20;

/// The spec asks for something that cannot be.
#[derive(Debug, Error)]
pub enum SpecError {
    /// Standard input could not be read.
    #[error("cannot read the spec from standard input: {0}")]
    Read(std::io::Error),
    /// Not a spec.
    #[error("the spec on standard input is not valid: {0}")]
    Json(serde_json::Error),
    /// Too little memory.
    #[error("{mib} MiB of memory are too little; a microVM needs at least {MIN_MEMORY_MIB} MiB")]
    TooLittleMemory {
        /// What was asked for.
        mib: u64,
    },
    /// More memory than there is.
    #[error("{mib} MiB of memory are more than this host's {host_mib} MiB")]
    TooMuchMemory {
        /// What was asked for.
        mib: u64,
        /// What the host has.
        host_mib: u64,
    },
    /// No or too many vCPUs.
    #[error("{vcpus} vCPUs; a microVM has 1 to {MAX_VCPUS}")]
    Vcpus {
        /// What was asked for.
        vcpus: u8,
    },
    /// More devices than interrupt lines.
    #[error("{count} devices; a microVM has at most {max}", max = DEVICE_IRQS.len())]
    TooManyDevices {
        /// What was asked for.
        count: usize,
    },
    /// Two things with one name.
    #[error("two {what} are called '{name}'")]
    Duplicate {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A name that is not one path component.
    #[error("'{name}' is no name for {what}: it has to be one path component of at most 255 bytes")]
    Name {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

/// Reads a spec and checks it against a host with `host_mib` MiB of memory.
pub fn read(input: impl Read, host_mib: u64) -> Result<VmSpec, SpecError> {
    let mut json = Vec::new();
    input
        .take(MAX_SPEC)
        .read_to_end(&mut json)
        .map_err(SpecError::Read)?;
    let spec: VmSpec = serde_json::from_slice(&json).map_err(SpecError::Json)?;
    check(&spec, host_mib)?;
    Ok(spec)
}

fn check(spec: &VmSpec, host_mib: u64) -> Result<(), SpecError> {
    let mib = spec.memory_mib;
    if mib < MIN_MEMORY_MIB {
        return Err(SpecError::TooLittleMemory { mib });
    }
    if mib > host_mib {
        return Err(SpecError::TooMuchMemory { mib, host_mib });
    }
    if !(1..=MAX_VCPUS).contains(&spec.vcpus) {
        return Err(SpecError::Vcpus { vcpus: spec.vcpus });
    }
    if spec.devices.len() > DEVICE_IRQS.len() {
        return Err(SpecError::TooManyDevices {
            count: spec.devices.len(),
        });
    }
    check_device_names(&spec.devices)?;
    check_descriptors(spec)
}

/// Each kind of name is unique among its kind, and file names are file names.
fn check_device_names(devices: &[DeviceSpec]) -> Result<(), SpecError> {
    let (mut tags, mut disks, mut networks, mut singletons) = (
        Names::new("file system tags"),
        Names::new("disks"),
        Names::new("network devices"),
        Names::new("devices"),
    );
    for device in devices {
        match device {
            DeviceSpec::Layers(layers) => {
                tags.add(&layers.tag)?;
                check_file_names("layer files", layers.files.iter().map(|file| &file.name))?;
            }
            DeviceSpec::Folders(folders) => {
                tags.add(&folders.tag)?;
                check_file_names(
                    "shared folders",
                    folders.folders.iter().map(|folder| &folder.name),
                )?;
            }
            DeviceSpec::Blk(blk) => disks.add(&blk.id)?,
            DeviceSpec::Net(net) => networks.add(&net.id)?,
            DeviceSpec::Vsock(_) => singletons.add("vsock")?,
            DeviceSpec::Rng => singletons.add("rng")?,
        }
    }
    Ok(())
}

fn check_file_names<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), SpecError> {
    let mut seen = Names::new(what);
    for name in names {
        let component =
            !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= 255;
        if !component {
            return Err(SpecError::Name {
                what,
                name: name.clone(),
            });
        }
        seen.add(name)?;
    }
    Ok(())
}

/// A descriptor belongs to one thing only.
fn check_descriptors(spec: &VmSpec) -> Result<(), SpecError> {
    let mut seen = Names::new("resources");
    let start = match &spec.start {
        Start::Boot(boot) => [&boot.kernel, &boot.initramfs],
        Start::Restore(RestoreSpec { snapshot, .. }) => [&snapshot.state, &snapshot.memory],
    };
    let save = spec
        .save
        .iter()
        .flat_map(|snapshot| [&snapshot.state, &snapshot.memory]);
    let own = [&spec.control, &spec.exit_report]
        .into_iter()
        .chain(&spec.cgroup)
        .chain(&spec.console);
    let own = own.chain(start).chain(save);
    for resource in own.chain(spec.devices.iter().flat_map(resources)) {
        if let Resource::Fd(fd) = resource {
            seen.add(&format!("descriptor {fd}"))?;
        }
    }
    Ok(())
}

fn resources(device: &DeviceSpec) -> Vec<&Resource> {
    match device {
        DeviceSpec::Layers(layers) => layers.files.iter().map(|file| &file.file).collect(),
        DeviceSpec::Folders(folders) => folders.folders.iter().map(|folder| &folder.root).collect(),
        DeviceSpec::Blk(blk) => vec![&blk.file],
        DeviceSpec::Net(net) => net.taps.iter().collect(),
        DeviceSpec::Vsock(vsock) => vec![&vsock.listener],
        DeviceSpec::Rng => Vec::new(),
    }
}

/// Names of one kind seen so far.
struct Names {
    what: &'static str,
    seen: BTreeSet<String>,
}

impl Names {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            seen: BTreeSet::new(),
        }
    }

    fn add(&mut self, name: &str) -> Result<(), SpecError> {
        match self.seen.insert(name.to_owned()) {
            true => Ok(()),
            false => Err(SpecError::Duplicate {
                what: self.what,
                name: name.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_spec::{BlkSpec, BootSpec, LayerFile, LayersSpec, SnapshotSpec};

    const HOST_MIB: u64 = 4096;

    fn spec() -> VmSpec {
        VmSpec {
            id: "test".to_owned(),
            cgroup: None,
            vcpus: 1,
            memory_mib: 128,
            start: Start::Boot(BootSpec {
                kernel: Resource::Fd(3),
                initramfs: Resource::Fd(4),
                cmdline: String::new(),
            }),
            save: None,
            console: None,
            control: Resource::Fd(5),
            exit_report: Resource::Fd(6),
            devices: Vec::new(),
        }
    }

    fn disk(id: &str, fd: i32) -> DeviceSpec {
        DeviceSpec::Blk(BlkSpec {
            id: id.to_owned(),
            file: Resource::Fd(fd),
            read_only: false,
        })
    }

    fn layers(tag: &str, names: &[&str]) -> DeviceSpec {
        let file = |name: &&str| LayerFile {
            name: (*name).to_owned(),
            file: Resource::Path("/x".into()),
        };
        DeviceSpec::Layers(LayersSpec {
            tag: tag.to_owned(),
            files: names.iter().map(file).collect(),
            dax_window_mib: 0,
        })
    }

    fn error(change: impl FnOnce(&mut VmSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        let json = serde_json::to_vec(&spec).unwrap();
        read(json.as_slice(), HOST_MIB).unwrap_err().to_string()
    }

    #[test]
    fn a_sound_spec_is_read() {
        let mut sound = spec();
        sound.devices = vec![
            layers("l", &["a", "b"]),
            layers("m", &["a"]),
            disk("x", 7),
            DeviceSpec::Rng,
        ];
        let json = serde_json::to_vec(&sound).unwrap();
        assert_eq!(read(json.as_slice(), HOST_MIB).unwrap(), sound);
    }

    #[test]
    fn memory_and_vcpus_have_bounds() {
        assert!(error(|spec| spec.memory_mib = 1).contains("at least 32 MiB"));
        assert!(error(|spec| spec.memory_mib = HOST_MIB + 1).contains("more than this host's 4096 MiB"));
        assert!(error(|spec| spec.vcpus = 0).contains("1 to 64"));
        assert!(error(|spec| spec.vcpus = 65).contains("1 to 64"));
    }

    #[test]
    fn duplicates_are_named() {
        assert!(
            error(|spec| spec.devices = vec![disk("x", 7), disk("x", 8)])
                .contains("two disks are called 'x'")
        );
        assert!(error(|spec| spec.devices = vec![disk("x", 3)]).contains("descriptor 3"));
        let snapshot = |state, memory| SnapshotSpec {
            state: Resource::Fd(state),
            memory: Resource::Fd(memory),
        };
        assert!(error(|spec| spec.save = Some(snapshot(7, 4))).contains("descriptor 4"));
        let restore = RestoreSpec {
            snapshot: snapshot(7, 5),
            copy: false,
        };
        assert!(error(|spec| spec.start = Start::Restore(restore)).contains("descriptor 5"));
        assert!(error(|spec| spec.devices = vec![layers("l", &[]), layers("l", &[])]).contains("tags"));
        assert!(error(|spec| spec.devices = vec![layers("l", &["a", "a"])]).contains("two layer files"));
        assert!(error(|spec| spec.devices = vec![DeviceSpec::Rng; 2]).contains("rng"));
        let many = (0..17)
            .map(|index| disk(&format!("d{index}"), 10 + index))
            .collect();
        assert!(error(|spec| spec.devices = many).contains("17 devices"));
    }

    #[test]
    fn a_name_is_one_path_component() {
        for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(
                error(|spec| spec.devices = vec![layers("l", &[name])]).contains("one path component"),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_no_spec_is_refused() {
        for json in ["", "{}", "[]", "{\"id\": 1}"] {
            assert!(
                matches!(read(json.as_bytes(), HOST_MIB), Err(SpecError::Json(_))),
                "{json}"
            );
        }
    }
}
