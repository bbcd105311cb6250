//! Mounts of a create request: `Binds`, `Mounts`, `Tmpfs` and `VolumesFrom`.

use std::collections::BTreeMap;

use bollard_stubs::models::{
    HostConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType,
    MountVolumeOptions,
};
use engine::{MountCreate, MountSource, VolumesFrom};

use super::refusal::unsupported;
use crate::error::ApiError;

/// All mounts a request asks for.
pub(super) fn read(host: &HostConfig) -> Result<Vec<MountCreate>, ApiError> {
    let mut mounts = Vec::new();
    for bind in host.binds.iter().flatten() {
        mounts.push(read_bind(bind)?);
    }
    for mount in host.mounts.iter().flatten() {
        mounts.push(read_mount(mount)?);
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        let source = MountSource::Tmpfs {
            options: options.clone(),
        };
        mounts.push(MountCreate {
            source,
            target: target.clone(),
            read_only: false,
        });
    }
    Ok(mounts)
}

/// Reads `CONTAINER[:ro|rw]`.
pub(super) fn read_volumes_from(list: &[String]) -> Result<Vec<VolumesFrom>, ApiError> {
    let read = |from: &String| {
        let (container, mode) = from.split_once(':').unwrap_or((from, "rw"));
        let invalid = |why: String| {
            ApiError::bad_request(format!("invalid volumes-from specification '{from}': {why}"))
        };
        if container.is_empty() {
            return Err(invalid("it names no container".into()));
        }
        let mut read_only = false;
        for option in mode.split(',') {
            match option {
                "ro" => read_only = true,
                // The last two are labels of SELinux, which mean nothing here.
                "rw" | "z" | "Z" => {}
                _ => return Err(invalid(format!("invalid mode: {mode}"))),
            }
        }
        Ok(VolumesFrom {
            container: container.to_owned(),
            read_only,
        })
    };
    list.iter().map(read).collect()
}

/// Reads `[SOURCE:]TARGET[:OPTIONS]`; a source with a leading slash is a path, any other the name of a volume.
fn read_bind(bind: &str) -> Result<MountCreate, ApiError> {
    let invalid = |why: &str| ApiError::bad_request(format!("invalid volume specification: '{bind}': {why}"));
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(invalid("it has more than three parts")),
    };
    if !target.starts_with('/') {
        return Err(invalid(&format!(
            "invalid mount config for type \"{}\": invalid mount path: '{target}' mount path must be absolute",
            if source.is_some_and(|source| source.starts_with('/')) {
                "bind"
            } else {
                "volume"
            }
        )));
    }
    let mut source = match source {
        None => MountSource::nameless_volume(),
        Some("") => return Err(invalid("the source is empty")),
        Some(path) if path.starts_with('/') => MountSource::Bind {
            path: path.into(),
            create: true,
            non_recursive: false,
        },
        Some(name) => volume(name),
    };
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            // SELinux labels and the consistency of another system's file sharing mean nothing here; the last two are
            // what a mount is anyway.
            "z" | "Z" | "consistent" | "cached" | "delegated" | "private" | "rprivate" => {}
            "nocopy" => match &mut source {
                MountSource::Volume { no_copy, .. } => *no_copy = true,
                _ => return Err(invalid("invalid mode: nocopy")),
            },
            // Mounts of the host made later do not come into a microVM, and none of its mounts goes out.
            "shared" | "rshared" | "slave" | "rslave" => {
                return Err(unsupported("Binds", Some(option)));
            }
            _ => return Err(invalid(&format!("invalid mode: {option}"))),
        }
    }
    Ok(MountCreate {
        source,
        target: target.to_owned(),
        read_only,
    })
}

fn read_mount(mount: &Mount) -> Result<MountCreate, ApiError> {
    let target = mount.target.clone().unwrap_or_default();
    if !target.starts_with('/') {
        return Err(ApiError::bad_request(format!(
            "invalid mount config: invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let source = mount.source.clone().unwrap_or_default();
    let source = match &mount.typ {
        Some(MountType::BIND) if source.starts_with('/') => {
            let options = mount.bind_options.as_ref();
            check_bind(options)?;
            MountSource::Bind {
                path: source.into(),
                create: options.and_then(|options| options.create_mountpoint) == Some(true),
                non_recursive: options.and_then(|options| options.non_recursive) == Some(true),
            }
        }
        Some(MountType::BIND) => {
            return Err(ApiError::bad_request(format!(
                "invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute"
            )));
        }
        Some(MountType::VOLUME) => {
            let options = mount.volume_options.clone().unwrap_or_default();
            check_volume(&options)?;
            MountSource::Volume {
                name: Some(source).filter(|name| !name.is_empty()),
                labels: options.labels.unwrap_or_default().into_iter().collect(),
                no_copy: options.no_copy.unwrap_or_default(),
                subpath: options.subpath.unwrap_or_default(),
            }
        }
        Some(MountType::TMPFS) => MountSource::Tmpfs {
            options: tmpfs_options(mount.tmpfs_options.as_ref())?,
        },
        Some(other) => return Err(unsupported("mount type", Some(&other.to_string()))),
        None => {
            return Err(ApiError::bad_request(
                "invalid mount config: mount type unknown: \"\"",
            ));
        }
    };
    Ok(MountCreate {
        source,
        target,
        read_only: mount.read_only.unwrap_or_default(),
    })
}

/// A volume by its name.
fn volume(name: &str) -> MountSource {
    MountSource::Volume {
        name: Some(name.to_owned()),
        labels: BTreeMap::new(),
        no_copy: false,
        subpath: String::new(),
    }
}

/// Refuses what a mount of a host's folder cannot be. One that is read-only is so with all that is mounted below it.
fn check_bind(options: Option<&MountBindOptions>) -> Result<(), ApiError> {
    use MountBindOptionsPropagationEnum::{EMPTY, PRIVATE, RPRIVATE};
    let Some(options) = options else { return Ok(()) };
    match &options.propagation {
        None | Some(EMPTY | PRIVATE | RPRIVATE) => {}
        Some(other) => return Err(unsupported("BindOptions.Propagation", Some(other.as_ref()))),
    }
    if options.read_only_non_recursive == Some(true) {
        return Err(unsupported("BindOptions.ReadOnlyNonRecursive", None));
    }
    Ok(())
}

fn check_volume(options: &MountVolumeOptions) -> Result<(), ApiError> {
    let Some(driver) = &options.driver_config else {
        return Ok(());
    };
    let is_local = matches!(driver.name.as_deref(), None | Some("" | "local"));
    if !is_local || driver.options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(unsupported("VolumeOptions.DriverConfig", None));
    }
    Ok(())
}

/// The options in the kernel's words.
fn tmpfs_options(options: Option<&MountTmpfsOptions>) -> Result<String, ApiError> {
    let Some(options) = options else {
        return Ok(String::new());
    };
    let mut words = Vec::new();
    match options.size_bytes.unwrap_or_default() {
        0 => {}
        size @ 1.. => words.push(format!("size={size}")),
        size => {
            return Err(ApiError::bad_request(format!(
                "invalid tmpfs size {size}: it is negative"
            )));
        }
    }
    match options.mode.unwrap_or_default() {
        0 => {}
        mode @ 1..=0o7777 => words.push(format!("mode={mode:o}")),
        mode => return Err(ApiError::bad_request(format!("invalid tmpfs mode {mode:o}"))),
    }
    for option in options.options.iter().flatten() {
        words.push(option.join("="));
    }
    Ok(words.join(","))
}
