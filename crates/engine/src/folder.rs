//! The state on disk.
//!
//! ```text
//! <root>/lock                       held by the engine that has the state open
//! <root>/containers/<id>/           config.json, state.json, log.json, disk.ext4, vmm.log, exit.json; full files of the
//!                                   log, as log/files.rs says
//! <root>/containers/.new-<id>/      a container that is being made
//! <root>/containers/.gone-<id>/     a container that is being removed
//! <root>/disks/                     the template of the writable disks
//! <root>/volumes/                   volumes, as volumes/store.rs says
//! <root>/networks/                  networks, as networks/store.rs says
//! ```
//! A container appears and goes with one rename; its files are replaced by rename, too.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sandbox::{SandboxRecord, Timeline};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{
    ContainerCreate, ContainerState, Endpoint, EngineError, MountPoint, PublishedPort, Result, VmSize,
};

/// What of a container never changes: `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) image_id: String,
    /// The EROFS files of the image's layers, the lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// With what the image says merged in.
    pub(crate) config: ContainerCreate,
    /// Entrypoint and command.
    pub(crate) args: Vec<String>,
    pub(crate) mounts: Vec<MountPoint>,
    /// Volumes without a name, made for it or taken over from another container, that go with the last one.
    pub(crate) nameless_volumes: Vec<String>,
    pub(crate) vm: VmSize,
    /// What its disk took when nothing was written to it, if it has a size of its own.
    #[serde(default)]
    pub(crate) blank_disk_bytes: Option<u64>,
}

/// What of a container changes: `state.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StateRecord {
    pub(crate) state: ContainerState,
    pub(crate) timeline: Timeline,
    /// Its microVM while it runs.
    pub(crate) sandbox: Option<SandboxRecord>,
    /// Where the log of its last run begins.
    pub(crate) log_start: u64,
    /// Whether it is paused only as long as the engine works on it: an engine that finds it so lets it go on.
    pub(crate) held_by_engine: bool,
    /// Its places in networks while it runs.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Its ports that are published.
    pub(crate) published: Vec<PublishedPort>,
}

/// The folder of a container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerFolder {
    path: PathBuf,
}

impl ContainerFolder {
    /// The folder at this path.
    pub(crate) fn new(path: PathBuf) -> ContainerFolder {
        ContainerFolder { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log.json")
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.path.join("disk.ext4")
    }

    pub(crate) fn read_record(&self) -> Result<ContainerRecord> {
        read_json(&self.path.join("config.json"))
    }

    /// The state; that of a container that was never started if none was written yet.
    pub(crate) fn read_state(&self) -> Result<StateRecord> {
        let path = self.path.join("state.json");
        if !path.exists() {
            return Ok(StateRecord::default());
        }
        read_json(&path)
    }

    pub(crate) fn write_record(&self, record: &ContainerRecord, durable: bool) -> Result<()> {
        write_json(&self.path, "config.json", record, durable)
    }

    pub(crate) fn write_state(&self, state: &StateRecord, durable: bool) -> Result<()> {
        write_json(&self.path, "state.json", state, durable)
    }
}

/// Makes a folder that only its owner may enter, with those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(EngineError::io("make the folder", path))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(EngineError::io("write the folder", path))
}

/// Removes a folder in two steps, so that a crash in between leaves one that [`is_remnant`].
pub(crate) fn remove_folder(path: &Path, durable: bool) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(EngineError::Internal(format!(
            "{} is no folder to remove",
            path.display()
        )));
    };
    let gone = parent.join(format!(".gone-{}", name.to_string_lossy()));
    fs::rename(path, &gone).map_err(EngineError::io("remove the folder", path))?;
    if durable {
        sync_folder(parent)?;
    }
    fs::remove_dir_all(&gone).map_err(EngineError::io("remove the folder", gone))
}

/// Whether a folder of this name is left of a creation or a removal that a crash cut short.
pub(crate) fn is_remnant(name: &str) -> bool {
    name.starts_with(".new-") || name.starts_with(".gone-")
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(EngineError::io("read", path))?;
    let parsed = serde_json::from_slice(&text).map_err(io::Error::from);
    parsed.map_err(EngineError::io("read", path))
}

/// Replaces a file, so that it is there as a whole, before or after, whatever happens. `durable` makes that hold for
/// a power cut, too, and the new one stay.
pub(crate) fn write_json<T: Serialize>(folder: &Path, name: &str, value: &T, durable: bool) -> Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    let write = || -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&text)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&new, &path)
    };
    write().map_err(|error| {
        // The old one stands; a torn new one is of no use.
        let _ = fs::remove_file(&new);
        EngineError::io("write", &path)(error)
    })?;
    if durable { sync_folder(folder) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn a_written_state_reads_back_and_a_missing_one_is_that_of_a_new_container() {
        let folder = tempfile::tempdir().unwrap();
        let container = ContainerFolder::new(folder.path().to_owned());
        assert_eq!(container.read_state().unwrap().state.status, Status::Created);
        let state = ContainerState {
            status: Status::Exited,
            exit_code: 3,
            ..ContainerState::default()
        };
        container
            .write_state(
                &StateRecord {
                    state: state.clone(),
                    ..StateRecord::default()
                },
                true,
            )
            .unwrap();
        assert_eq!(container.read_state().unwrap().state, state);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_state_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let container = ContainerFolder::new(folder.path().to_owned());
        let state = StateRecord {
            log_start: 7,
            ..StateRecord::default()
        };
        container.write_state(&state, false).unwrap();
        fs::create_dir(folder.path().join("state.json.new")).unwrap();
        let error = container.write_state(&StateRecord::default(), false).unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
        assert_eq!(container.read_state().unwrap().log_start, 7);
    }

    #[test]
    fn a_removed_folder_is_gone_and_remnants_are_known() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("abc");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        remove_folder(&folder, true).unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        assert!(is_remnant(".new-abc") && is_remnant(".gone-abc") && !is_remnant("abc"));
    }
}
