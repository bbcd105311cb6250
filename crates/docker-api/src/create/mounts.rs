//! Mounts of a create request: `Binds`, `Mounts`, `Tmpfs` and `Volumes`.

use bollard_stubs::models::{
    ContainerCreateBody, HostConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum,
    MountTmpfsOptions, MountType, MountVolumeOptions,
};
use engine::{MountCreate, MountSource};

use super::refusal::unsupported;
use crate::error::ApiError;

/// All mounts a request asks for.
pub(super) fn read(body: &ContainerCreateBody, host: &HostConfig) -> Result<Vec<MountCreate>, ApiError> {
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
    for target in body.volumes.iter().flatten() {
        if mounts.iter().all(|mount| mount.target != *target) {
            mounts.push(nameless_volume(target));
        }
    }
    Ok(mounts)
}

fn nameless_volume(target: &str) -> MountCreate {
    MountCreate {
        source: MountSource::Volume { name: None },
        target: target.to_owned(),
        read_only: false,
    }
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
            "invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let source = match source {
        None => MountSource::Volume { name: None },
        Some("") => return Err(invalid("the source is empty")),
        Some(path) if path.starts_with('/') => MountSource::Bind {
            path: path.into(),
            create: true,
        },
        Some(name) => MountSource::Volume {
            name: Some(name.to_owned()),
        },
    };
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            // SELinux labels and the consistency of another system's file sharing mean nothing here; the last two are
            // what a mount is anyway.
            "z" | "Z" | "consistent" | "cached" | "delegated" | "private" | "rprivate" => {}
            "nocopy" | "shared" | "rshared" | "slave" | "rslave" => {
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
            let create = check_bind(mount.bind_options.as_ref())?;
            MountSource::Bind {
                path: source.into(),
                create,
            }
        }
        Some(MountType::BIND) => {
            return Err(ApiError::bad_request(format!(
                "invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute"
            )));
        }
        Some(MountType::VOLUME) => {
            check_volume(mount.volume_options.as_ref())?;
            MountSource::Volume {
                name: Some(source).filter(|name| !name.is_empty()),
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

/// Whether a missing source is to be made.
fn check_bind(options: Option<&MountBindOptions>) -> Result<bool, ApiError> {
    use MountBindOptionsPropagationEnum::{EMPTY, PRIVATE, RPRIVATE};
    let Some(options) = options else { return Ok(false) };
    match &options.propagation {
        None | Some(EMPTY | PRIVATE | RPRIVATE) => {}
        Some(other) => return Err(unsupported("BindOptions.Propagation", Some(other.as_ref()))),
    }
    let flags = [
        ("BindOptions.NonRecursive", options.non_recursive),
        (
            "BindOptions.ReadOnlyNonRecursive",
            options.read_only_non_recursive,
        ),
        (
            "BindOptions.ReadOnlyForceRecursive",
            options.read_only_force_recursive,
        ),
    ];
    match flags.into_iter().find(|(_, set)| *set == Some(true)) {
        Some((flag, _)) => Err(unsupported(flag, None)),
        None => Ok(options.create_mountpoint.unwrap_or_default()),
    }
}

fn check_volume(options: Option<&MountVolumeOptions>) -> Result<(), ApiError> {
    let Some(options) = options else { return Ok(()) };
    let driver = options.driver_config.as_ref();
    let other_driver = driver.is_some_and(|driver| {
        !matches!(driver.name.as_deref(), None | Some("" | "local"))
            || driver.options.as_ref().is_some_and(|options| !options.is_empty())
    });
    let refused = [
        ("VolumeOptions.NoCopy", options.no_copy == Some(true)),
        (
            "VolumeOptions.Labels",
            options.labels.as_ref().is_some_and(|labels| !labels.is_empty()),
        ),
        ("VolumeOptions.DriverConfig", other_driver),
        (
            "VolumeOptions.Subpath",
            options.subpath.as_ref().is_some_and(|path| !path.is_empty()),
        ),
    ];
    match refused.into_iter().find(|(_, set)| *set) {
        Some((option, _)) => Err(unsupported(option, None)),
        None => Ok(()),
    }
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
