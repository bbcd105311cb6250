//! Mounts of a container: what is checked and made when it is created, and what its microVM gets.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use sandbox::{FOLDERS_TAG, FolderSpec, Mount, TmpfsFlags};

use crate::container::Live;
use crate::volumes::{Fill, VolumeHold};
use crate::{
    ClientFiles, ContainerCreate, EngineError, MountCreate, MountKind, MountPoint, MountSource, Result,
    VolumeCreate,
};

/// The mounts of a new container.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// Those that lie in others behind them.
    pub(crate) points: Vec<MountPoint>,
    /// Volumes that go with the container.
    pub(crate) nameless_volumes: Vec<String>,
}

impl Planned {
    /// The mounts of a container that another one takes over (`--volumes-from`), and the nameless volumes among them.
    pub(crate) fn inherit(&mut self, from: &Live, read_only: bool) {
        let record = from.record();
        for point in record
            .mounts
            .iter()
            .filter(|point| point.kind != MountKind::Tmpfs)
        {
            self.points.retain(|other| other.target != point.target);
            self.points.push(MountPoint {
                read_only: point.read_only || read_only,
                copy: false,
                ..point.clone()
            });
        }
        self.nameless_volumes
            .extend(record.nameless_volumes.iter().cloned());
    }

    /// Checks the mounts that are asked for and makes the volumes and folders that are missing.
    pub(crate) fn add(
        mut self,
        config: &ContainerCreate,
        files: &ClientFiles,
        hold: &mut VolumeHold,
    ) -> Result<Planned> {
        let mut targets = HashSet::new();
        for mount in &config.mounts {
            if !targets.insert(target(&mount.target)?) {
                return Err(EngineError::Invalid(format!(
                    "Duplicate mount point: {}",
                    mount.target
                )));
            }
        }
        self.points
            .retain(|inherited| !targets.contains(&inherited.target));
        for inherited in self.points.iter().filter(|point| point.kind == MountKind::Volume) {
            hold.take_existing(&inherited.name)?;
        }
        for mount in &config.mounts {
            self.mount(mount, files, hold)?;
        }
        for path in &config.volumes {
            let path = target(path)?;
            if self.points.iter().all(|point| point.target != path) {
                let source = MountSource::nameless_volume();
                let read_only = false;
                self.mount(
                    &MountCreate {
                        source,
                        target: path,
                        read_only,
                    },
                    files,
                    hold,
                )?;
            }
        }
        self.points.sort_by_key(|point| point.target.matches('/').count());
        let mounted: HashSet<&String> = self.points.iter().map(|point| &point.name).collect();
        self.nameless_volumes.retain(|name| mounted.contains(name));
        Ok(self)
    }

    fn mount(&mut self, mount: &MountCreate, files: &ClientFiles, hold: &mut VolumeHold) -> Result<()> {
        let point = match &mount.source {
            MountSource::Bind {
                path,
                create,
                non_recursive,
            } => MountPoint {
                non_recursive: *non_recursive,
                ..bind(path, *create, files)?
            },
            MountSource::Volume {
                name,
                labels,
                no_copy,
                subpath,
            } => {
                let record = hold.take(VolumeCreate {
                    name: name.clone(),
                    labels: labels.clone(),
                })?;
                if name.is_none() {
                    self.nameless_volumes.push(record.name.clone());
                }
                let data = hold.data(&record.name);
                MountPoint {
                    // What is below a path of the volume is not the image's to fill.
                    copy: !no_copy && subpath.is_empty(),
                    subpath: check_subpath(subpath)?,
                    ..point(MountKind::Volume, record.name, data, String::new())
                }
            }
            MountSource::Tmpfs { options } => {
                let options = tmpfs(options)?;
                point(MountKind::Tmpfs, String::new(), PathBuf::new(), options.text)
            }
        };
        self.points.push(MountPoint {
            target: target(&mount.target)?,
            read_only: mount.read_only || is_read_only(&mount.source),
            ..point
        });
        Ok(())
    }
}

/// What the microVM gets for these mounts, and where the agent mounts it. Those that are to be filled can be written in
/// any case, by the agent; the container sees them as it should.
pub(crate) fn realize(
    points: &[MountPoint],
    files: &ClientFiles,
    fills: &[Fill],
) -> Result<(Vec<FolderSpec>, Vec<Mount>)> {
    let mut folders = Vec::new();
    let mut mounts = Vec::new();
    for (index, point) in points.iter().enumerate() {
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
                    beneath: point.subpath.clone().into(),
                    recursive: !point.non_recursive,
                    read_only: point.read_only && fills.iter().all(|fill| fill.mount != index),
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
        copy: false,
        subpath: String::new(),
        non_recursive: false,
    }
}

/// A target as it is kept: without what means nothing in a path.
fn target(target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(EngineError::Invalid(format!(
            "invalid mount config: invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let names = target.split('/').filter(|name| !name.is_empty() && *name != ".");
    if names.clone().any(|name| name == "..") || names.clone().next().is_none() {
        return Err(EngineError::Invalid(format!(
            "invalid specification: destination can't be '{target}'"
        )));
    }
    Ok(names.fold(String::new(), |path, name| path + "/" + name))
}

/// A path in a volume.
fn check_subpath(subpath: &str) -> Result<String> {
    let is_below = |name: &str| name != "..";
    if subpath.starts_with('/') || !subpath.split('/').all(is_below) {
        return Err(EngineError::Invalid(format!(
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume: {subpath}"
        )));
    }
    Ok(subpath.to_owned())
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
mod tests;
