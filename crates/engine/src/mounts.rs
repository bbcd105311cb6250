//! Mounts of a container: what is checked and made when it is created, and what its microVM gets.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sandbox::{FOLDERS_TAG, FolderSpec, Mount, TmpfsFlags};

use crate::folder::make_folder;
use crate::ids::new_id;
use crate::{ClientFiles, EngineError, MountCreate, MountKind, MountPoint, MountSource, Result};

/// The mounts of a new container.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) points: Vec<MountPoint>,
    /// Volumes that go with the container.
    pub(crate) nameless_volumes: Vec<String>,
}

/// Checks mounts and makes the volumes and folders that are missing.
pub(crate) fn plan(mounts: &[MountCreate], files: &ClientFiles, volumes: &Path) -> Result<Planned> {
    let mut targets = HashSet::new();
    for mount in mounts {
        check_target(&mount.target)?;
        if !targets.insert(mount.target.trim_end_matches('/')) {
            return Err(EngineError::Invalid(format!(
                "Duplicate mount point: {}",
                mount.target
            )));
        }
    }
    let mut planned = Planned::default();
    for mount in mounts {
        let point = match &mount.source {
            MountSource::Bind { path, create } => bind(path, *create, files)?,
            MountSource::Volume { name } => volume(name.as_deref(), volumes, &mut planned.nameless_volumes)?,
            MountSource::Tmpfs { options } => {
                let options = tmpfs(options)?;
                point(MountKind::Tmpfs, String::new(), PathBuf::new(), options.text)
            }
        };
        let read_only = mount.read_only || is_read_only(&mount.source);
        planned.points.push(MountPoint {
            target: mount.target.clone(),
            read_only,
            ..point
        });
    }
    Ok(planned)
}

/// Removes volumes.
pub(crate) fn remove_volumes(volumes: &Path, names: &[String]) {
    for name in names {
        if let Err(error) = fs::remove_dir_all(volumes.join(name)) {
            tracing::warn!(volume = name, %error, "a volume that went with its container stays");
        }
    }
}

/// What the microVM gets for these mounts, and where the agent mounts it.
pub(crate) fn realize(points: &[MountPoint], files: &ClientFiles) -> Result<(Vec<FolderSpec>, Vec<Mount>)> {
    let mut folders = Vec::new();
    let mut mounts = Vec::new();
    for point in points {
        let source = match point.kind {
            MountKind::Bind | MountKind::Volume => {
                let path = match point.kind {
                    MountKind::Bind => files
                        .find(&point.source)
                        .map_err(|error| not_found(&point.source, error))?,
                    _ if point.source.exists() => point.source.clone(),
                    _ => return Err(missing(&point.source)),
                };
                let name = format!("m{}", folders.len());
                folders.push(FolderSpec {
                    name: name.clone(),
                    path,
                    read_only: point.read_only,
                });
                sandbox::MountSource::Shared {
                    tag: FOLDERS_TAG.into(),
                    path: name,
                }
            }
            MountKind::Tmpfs => {
                let options = tmpfs(&point.options)?;
                sandbox::MountSource::Tmpfs {
                    options: options.kernel,
                    flags: options.flags,
                }
            }
        };
        mounts.push(Mount {
            target: point.target.clone(),
            source,
            read_only: point.read_only,
        });
    }
    Ok((folders, mounts))
}

fn point(kind: MountKind, name: String, source: PathBuf, options: String) -> MountPoint {
    MountPoint {
        kind,
        name,
        source,
        target: String::new(),
        read_only: false,
        options,
    }
}

fn check_target(target: &str) -> Result<()> {
    if !target.starts_with('/') {
        return Err(EngineError::Invalid(format!(
            "invalid mount config: invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let inside = target.split('/').filter(|part| !part.is_empty() && *part != ".");
    if inside.clone().any(|part| part == "..") || inside.count() == 0 {
        return Err(EngineError::Invalid(format!(
            "invalid specification: destination can't be '{target}'"
        )));
    }
    Ok(())
}

fn bind(path: &Path, create: bool, files: &ClientFiles) -> Result<MountPoint> {
    if !path.is_absolute() {
        return Err(EngineError::Invalid(format!(
            "invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be absolute",
            path.display()
        )));
    }
    let found = match files.find(path) {
        Err(error) if create && error.kind() == io::ErrorKind::NotFound => files
            .make_folder(path)
            .map_err(EngineError::io("make the folder to be mounted", path))?,
        found => found.map_err(|error| not_found(path, error))?,
    };
    // The device serves what the path means now; what a symbolic link in it is turned to later is not the guest's.
    Ok(point(
        MountKind::Bind,
        String::new(),
        files.name(&found),
        String::new(),
    ))
}

fn not_found(path: &Path, error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::NotFound => missing(path),
        _ => EngineError::io("find the folder to be mounted", path)(error),
    }
}

fn missing(path: &Path) -> EngineError {
    EngineError::Invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        path.display()
    ))
}

fn volume(name: Option<&str>, volumes: &Path, nameless: &mut Vec<String>) -> Result<MountPoint> {
    let name = match name {
        Some(name) => {
            check_volume(name)?;
            name.to_owned()
        }
        None => {
            let id = new_id().map_err(EngineError::io("read", "random numbers"))?;
            nameless.push(id.clone());
            id
        }
    };
    let data = volumes.join(&name).join("_data");
    if !data.exists() {
        make_folder(&volumes.join(&name))?;
        // Its owner and mode are seen in the container: those of a folder that anyone may enter.
        fs::create_dir(&data).map_err(EngineError::io("make the volume", &data))?;
    }
    Ok(point(MountKind::Volume, name, data, String::new()))
}

fn check_volume(name: &str) -> Result<()> {
    let valid = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if valid {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

fn is_read_only(source: &MountSource) -> bool {
    matches!(source, MountSource::Tmpfs { options } if options.split(',').any(|option| option == "ro"))
}

/// Options of a tmpfs, sorted out.
struct Tmpfs {
    /// As they were given.
    text: String,
    /// Those for the file system.
    kernel: String,
    /// Those for the mount.
    flags: TmpfsFlags,
}

/// Docker mounts with noexec, nosuid and nodev unless told otherwise.
fn tmpfs(options: &str) -> Result<Tmpfs> {
    let mut flags = TmpfsFlags {
        no_exec: true,
        no_suid: true,
        no_dev: true,
    };
    let mut kernel = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "exec" => flags.no_exec = false,
            "noexec" => flags.no_exec = true,
            "suid" => flags.no_suid = false,
            "nosuid" => flags.no_suid = true,
            "dev" => flags.no_dev = false,
            "nodev" => flags.no_dev = true,
            "ro" | "rw" => {}
            _ => match option.split_once('=') {
                Some(("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks", value))
                    if !value.is_empty() =>
                {
                    kernel.push(option);
                }
                _ => return Err(EngineError::Invalid(format!("Invalid tmpfs option {option:?}"))),
            },
        }
    }
    Ok(Tmpfs {
        text: options.to_owned(),
        kernel: kernel.join(","),
        flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: MountSource, target: &str) -> MountCreate {
        MountCreate {
            source,
            target: target.into(),
            read_only: false,
        }
    }

    fn here() -> ClientFiles {
        ClientFiles::default()
    }

    fn named(name: &str) -> MountSource {
        MountSource::Volume {
            name: Some(name.into()),
        }
    }

    #[test]
    fn volumes_are_made_and_kept_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = [
            mount(named("data"), "/data"),
            mount(MountSource::Volume { name: None }, "/tmp"),
        ];
        let planned = plan(&mounts, &here(), folder.path()).unwrap();
        assert_eq!(planned.points[0].source, folder.path().join("data/_data"));
        assert_eq!(planned.nameless_volumes.len(), 1);
        assert!(planned.points.iter().all(|point| point.source.is_dir()));
        fs::write(planned.points[0].source.join("kept"), "").unwrap();
        assert_eq!(
            plan(&mounts[..1], &here(), folder.path()).unwrap().points,
            planned.points[..1]
        );
        remove_volumes(folder.path(), &planned.nameless_volumes);
        assert!(folder.path().join("data/_data/kept").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(plan(&[mount(named("../x"), "/x")], &here(), folder.path()).is_err());
    }

    #[test]
    fn a_missing_folder_is_made_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let bind = |create| {
            [mount(
                MountSource::Bind {
                    path: path.clone(),
                    create,
                },
                "/x",
            )]
        };
        let error = plan(&bind(false), &here(), folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("bind source path does not exist"),
            "{error}"
        );
        let points = plan(&bind(true), &here(), folder.path()).unwrap().points;
        let (folders, mounts) = realize(&points, &here()).unwrap();
        assert_eq!(folders[0].path, path.canonicalize().unwrap());
        assert_eq!(
            mounts[0].source,
            sandbox::MountSource::Shared {
                tag: FOLDERS_TAG.into(),
                path: folders[0].name.clone()
            }
        );
        fs::remove_dir(&path).unwrap();
        assert!(realize(&points, &here()).is_err());
    }

    #[test]
    fn targets_are_absolute_inside_the_root_and_different() {
        let tmpfs = || MountSource::Tmpfs {
            options: String::new(),
        };
        for target in ["x", "/", "/.", "/a/../b", ""] {
            assert!(
                plan(&[mount(tmpfs(), target)], &here(), Path::new("/nonexistent")).is_err(),
                "{target}"
            );
        }
        let twice = [mount(tmpfs(), "/a"), mount(tmpfs(), "/a/")];
        assert_eq!(
            plan(&twice, &here(), Path::new("/nonexistent"))
                .unwrap_err()
                .to_string(),
            "Duplicate mount point: /a/"
        );
    }

    #[test]
    fn tmpfs_options_are_sorted_out() {
        let options = tmpfs("size=64m,exec,mode=1777,rw").unwrap();
        assert_eq!(options.kernel, "size=64m,mode=1777");
        assert_eq!(
            options.flags,
            TmpfsFlags {
                no_exec: false,
                no_suid: true,
                no_dev: true
            }
        );
        for nonsense in ["size", "size=", "loop", "mode=1,x=2"] {
            assert!(tmpfs(nonsense).is_err(), "{nonsense}");
        }
        let read_only = [mount(MountSource::Tmpfs { options: "ro".into() }, "/x")];
        assert!(
            plan(&read_only, &here(), Path::new("/nonexistent"))
                .unwrap()
                .points[0]
                .read_only
        );
    }
}
