//! The volumes on disk, and who holds them.
//!
//! ```text
//! <root>/volumes/<name>/volume.json     what is known of it
//! <root>/volumes/<name>/_data/          what containers mount
//! <root>/volumes/.new-<name>/           a volume that is being made
//! <root>/volumes/.gone-<id>/            a volume that is being removed
//! ```
//! A volume appears and goes with one rename.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{VolumeCreate, tree};
use crate::folder::{is_remnant, make_folder, read_json, sync_folder, write_json};
use crate::ids::new_id;
use crate::{EngineError, Result};

const RECORD: &str = "volume.json";
const DATA: &str = "_data";
/// Its owner and mode are seen in containers: those of a folder that anyone may enter.
const DATA_MODE: u32 = 0o755;
/// The longest name that still has room for the prefix of a volume in the making.
const MAX_NAME: usize = 240;

/// What is known of a volume: `volume.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) anonymous: bool,
    pub(crate) filling: Filling,
}

/// How far a volume has come to have what the image has in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Filling {
    /// No container has been started with it.
    New,
    /// A copy was begun. What is there may be a part of it.
    Begun,
    /// A copy was finished, or was not wanted.
    Done,
}

/// The volumes of an engine. Clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Volumes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    record: VolumeRecord,
    /// How many containers that are being made mount it.
    holds: usize,
    /// Held by whoever copies into it.
    filling: Arc<tokio::sync::Mutex<()>>,
}

impl Entry {
    fn new(record: VolumeRecord) -> Entry {
        Entry {
            record,
            holds: 0,
            filling: Arc::default(),
        }
    }
}

impl Volumes {
    /// Reads the volumes, takes over those of a hull that knew them as folders only, and removes what a crash left half
    /// made or half removed.
    pub(crate) fn open(folder: PathBuf) -> Result<Volumes> {
        make_folder(&folder)?;
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(EngineError::io("read the folder", &folder))? {
            let path = entry.map_err(EngineError::io("read the folder", &folder))?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if is_remnant(&name) {
                if let Err(error) = tree::remove(&path) {
                    tracing::warn!(folder = %path.display(), %error, "a remnant of a volume stays");
                }
                continue;
            }
            match read(&path, &name) {
                Ok(record) => drop(entries.insert(name, Entry::new(record))),
                // One damaged volume must not keep the others from being used.
                Err(error) => tracing::error!(folder = %path.display(), %error, "a volume cannot be read"),
            }
        }
        Ok(Volumes(Arc::new(Inner {
            folder,
            entries: Mutex::new(entries),
        })))
    }

    /// Makes a volume; the one that is there if the name is taken. Whether it was made is told, too.
    pub(crate) fn create(&self, create: VolumeCreate) -> Result<(VolumeRecord, bool)> {
        let mut entries = self.entries();
        self.get_or_make(&mut entries, create, true)
    }

    pub(crate) fn get(&self, name: &str) -> Result<VolumeRecord> {
        let entries = self.entries();
        let entry = entries.get(name);
        entry
            .map(|entry| entry.record.clone())
            .ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))
    }

    /// All of them, in the order of their names.
    pub(crate) fn all(&self) -> Vec<VolumeRecord> {
        self.entries()
            .values()
            .map(|entry| entry.record.clone())
            .collect()
    }

    /// The folder that containers mount.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.0.folder.join(name).join(DATA)
    }

    /// How many bytes it takes on the host.
    pub(crate) fn size(&self, name: &str) -> Result<u64> {
        let data = self.data(name);
        tree::size(&data).map_err(EngineError::io("look at the volume", data))
    }

    /// Removes a volume that nobody uses; `users` are the ids of the containers that mount one.
    pub(crate) fn remove(&self, name: &str, users: impl FnOnce(&str) -> Vec<String>) -> Result<VolumeRecord> {
        let mut entries = self.entries();
        let Some(entry) = entries.get(name) else {
            return Err(EngineError::NoSuchVolume(name.to_owned()));
        };
        // A container that is being made is among the users before it lets go of its holds.
        let users = users(name);
        if entry.holds > 0 || !users.is_empty() {
            return Err(EngineError::VolumeInUse {
                name: name.to_owned(),
                users: users.join(", "),
            });
        }
        let id = new_id().map_err(EngineError::io("read", "random numbers"))?;
        let (path, gone) = (
            self.0.folder.join(name),
            self.0.folder.join(format!(".gone-{id}")),
        );
        fs::rename(&path, &gone).map_err(EngineError::io("remove the volume", &path))?;
        let record = entry.record.clone();
        entries.remove(name);
        sync_folder(&self.0.folder)?;
        drop(entries);
        if let Err(error) = tree::remove(&gone) {
            // The volume is gone; the next start removes what is left of it.
            tracing::warn!(volume = name, %error, "a remnant of a volume stays");
        }
        Ok(record)
    }

    /// Takes the right to copy into a volume, and tells how far it is.
    pub(crate) async fn lock_filling(
        &self,
        name: &str,
    ) -> Result<(tokio::sync::OwnedMutexGuard<()>, Filling)> {
        let missing = || EngineError::NoSuchVolume(name.to_owned());
        let lock = self.entries().get(name).map(|entry| entry.filling.clone());
        let guard = lock.ok_or_else(missing)?.lock_owned().await;
        let filling = self.get(name)?.filling;
        Ok((guard, filling))
    }

    /// Writes down how far a volume is; `durable` makes that, and what is in the volume, outlast a power cut.
    pub(crate) fn set_filling(&self, name: &str, filling: Filling, durable: bool) -> Result<()> {
        if durable && filling == Filling::Done {
            let data = self.data(name);
            let sync = || rustix::fs::syncfs(fs::File::open(&data)?).map_err(std::io::Error::from);
            sync().map_err(EngineError::io("write the volume", &data))?;
        }
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(name) else {
            return Err(EngineError::NoSuchVolume(name.to_owned()));
        };
        let record = VolumeRecord {
            filling,
            ..entry.record.clone()
        };
        write_json(&self.0.folder.join(name), RECORD, &record, durable)?;
        entry.record = record;
        Ok(())
    }

    fn get_or_make(
        &self,
        entries: &mut BTreeMap<String, Entry>,
        create: VolumeCreate,
        durable: bool,
    ) -> Result<(VolumeRecord, bool)> {
        let anonymous = create.name.is_none();
        let name = match create.name {
            Some(name) => {
                check_name(&name)?;
                name
            }
            None => new_id().map_err(EngineError::io("read", "random numbers"))?,
        };
        if let Some(entry) = entries.get(&name) {
            return Ok((entry.record.clone(), false));
        }
        let record = VolumeRecord {
            name: name.clone(),
            created: Timestamp::now(),
            labels: create.labels,
            anonymous,
            filling: Filling::New,
        };
        make(&self.0.folder, &record, durable)?;
        entries.insert(name, Entry::new(record.clone()));
        Ok((record, true))
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The volumes of a container that is being made. Nobody removes them until it is there. When it is dropped without
/// having been [kept](VolumeHold::keep), the anonymous ones that were made for it go.
#[derive(Debug)]
pub(crate) struct VolumeHold {
    volumes: Volumes,
    held: HashMap<String, usize>,
    made: Vec<VolumeRecord>,
    durable: bool,
    kept: bool,
}

impl VolumeHold {
    /// Holds nothing yet. `durable` makes what is made for it outlast a power cut.
    pub(crate) fn new(volumes: &Volumes, durable: bool) -> VolumeHold {
        VolumeHold {
            volumes: volumes.clone(),
            held: HashMap::new(),
            made: Vec::new(),
            durable,
            kept: false,
        }
    }

    /// Holds a volume, which is made when it is not there.
    pub(crate) fn take(&mut self, create: VolumeCreate) -> Result<VolumeRecord> {
        let volumes = self.volumes.clone();
        let mut entries = volumes.entries();
        // One with a name is somebody's data, whatever becomes of this container.
        let durable = self.durable || create.name.is_some();
        let (record, made) = volumes.get_or_make(&mut entries, create, durable)?;
        if let Some(entry) = entries.get_mut(&record.name) {
            entry.holds += 1;
        }
        *self.held.entry(record.name.clone()).or_default() += 1;
        if made {
            self.made.push(record.clone());
        }
        Ok(record)
    }

    /// Holds a volume that must be there.
    pub(crate) fn take_existing(&mut self, name: &str) -> Result<()> {
        let volumes = self.volumes.clone();
        let mut entries = volumes.entries();
        let entry = entries.get_mut(name);
        entry
            .ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))?
            .holds += 1;
        *self.held.entry(name.to_owned()).or_default() += 1;
        Ok(())
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.volumes.data(name)
    }

    /// Lets go of the volumes of a container that is there now; answers those that were made for it.
    pub(crate) fn keep(mut self) -> Vec<VolumeRecord> {
        self.kept = true;
        std::mem::take(&mut self.made)
    }
}

impl Drop for VolumeHold {
    fn drop(&mut self) {
        {
            let mut entries = self.volumes.entries();
            for (name, count) in &self.held {
                if let Some(entry) = entries.get_mut(name) {
                    entry.holds -= count;
                }
            }
        }
        if self.kept {
            return;
        }
        for record in self.made.iter().filter(|record| record.anonymous) {
            if let Err(error) = self.volumes.remove(&record.name, |_| Vec::new()) {
                tracing::warn!(volume = record.name, %error, "a volume of a container that was not made stays");
            }
        }
    }
}

/// Makes a volume's folder under another name, then gives it its own.
fn make(folder: &Path, record: &VolumeRecord, durable: bool) -> Result<()> {
    let (path, new) = (
        folder.join(&record.name),
        folder.join(format!(".new-{}", record.name)),
    );
    let fill = || -> Result<()> {
        make_folder(&new)?;
        let data = new.join(DATA);
        let made = DirBuilder::new().mode(DATA_MODE).create(&data);
        // Whatever the umask.
        let made = made.and_then(|()| fs::set_permissions(&data, Permissions::from_mode(DATA_MODE)));
        made.map_err(EngineError::io("make the volume", &data))?;
        write_json(&new, RECORD, record, durable)?;
        fs::rename(&new, &path).map_err(EngineError::io("make the volume", &path))
    };
    fill().inspect_err(|_| {
        // The error that is about to be told matters more than one from here; the next start removes what stays.
        let _ = fs::remove_dir_all(&new);
    })?;
    if durable { sync_folder(folder) } else { Ok(()) }
}

fn read(path: &Path, name: &str) -> Result<VolumeRecord> {
    check_name(name)?;
    if path.join(RECORD).exists() {
        let record: VolumeRecord = read_json(&path.join(RECORD))?;
        return Ok(VolumeRecord {
            name: name.to_owned(),
            ..record
        });
    }
    let data = path.join(DATA);
    let metadata = fs::symlink_metadata(&data).map_err(EngineError::io("find the volume", &data))?;
    let created = metadata
        .modified()
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok());
    let record = VolumeRecord {
        name: name.to_owned(),
        created: created.unwrap_or_else(Timestamp::now),
        labels: BTreeMap::new(),
        anonymous: name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
        filling: Filling::Done,
    };
    write_json(path, RECORD, &record, true)?;
    Ok(record)
}

fn check_name(name: &str) -> Result<()> {
    let valid = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !valid {
        return Err(EngineError::Invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    if name.len() > MAX_NAME {
        return Err(EngineError::Invalid(format!(
            "create {name}: a volume name has at most {MAX_NAME} characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> VolumeCreate {
        VolumeCreate {
            name: Some(name.into()),
            ..VolumeCreate::default()
        }
    }

    fn nobody(_: &str) -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn a_volume_is_there_again_with_all_that_is_known_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().to_owned()).unwrap();
        let create = VolumeCreate {
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..named("data")
        };
        let (record, made) = volumes.create(create).unwrap();
        assert!(made && !record.anonymous);
        assert_eq!(
            fs::metadata(volumes.data("data")).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        let (same, made) = volumes.create(named("data")).unwrap();
        assert!(!made);
        assert_eq!(same, record);
        volumes.set_filling("data", Filling::Begun, true).unwrap();
        let again = Volumes::open(folder.path().to_owned()).unwrap();
        assert_eq!(again.get("data").unwrap().labels["a"], "b");
        assert_eq!(again.get("data").unwrap().filling, Filling::Begun);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().to_owned()).unwrap();
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["x", "../x", ".new-x", "a/b", "-x", "a b", "", &long] {
            assert!(volumes.create(named(name)).is_err(), "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn folders_of_an_older_hull_are_volumes_and_remnants_go() {
        let folder = tempfile::tempdir().unwrap();
        let nameless = "0123456789abcdef".repeat(4);
        for name in ["old", &nameless, ".new-x", ".gone-y"] {
            fs::create_dir_all(folder.path().join(name).join("_data/sub")).unwrap();
        }
        let volumes = Volumes::open(folder.path().to_owned()).unwrap();
        let found: Vec<_> = volumes.all().into_iter().map(|v| (v.name, v.anonymous)).collect();
        assert_eq!(found, [(nameless, true), ("old".into(), false)]);
        assert_eq!(volumes.get("old").unwrap().filling, Filling::Done);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(folder.path().join("old/_data/sub").exists());
    }

    #[test]
    fn a_volume_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().to_owned()).unwrap();
        volumes.create(named("data")).unwrap();
        let error = volumes
            .remove("data", |_| vec!["abc".into(), "def".into()])
            .unwrap_err();
        assert_eq!(error.to_string(), "remove data: volume is in use - [abc, def]");
        let mut hold = VolumeHold::new(&volumes, true);
        hold.take(named("data")).unwrap();
        assert!(volumes.remove("data", nobody).is_err());
        drop(hold);
        volumes.remove("data", nobody).unwrap();
        let error = volumes.remove("data", nobody).unwrap_err();
        assert_eq!(error.to_string(), "get data: no such volume");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn of_a_container_that_was_not_made_only_named_volumes_stay() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().to_owned()).unwrap();
        let take = |hold: &mut VolumeHold| {
            hold.take(named("data")).unwrap();
            hold.take(VolumeCreate::default()).unwrap()
        };
        let mut hold = VolumeHold::new(&volumes, false);
        take(&mut hold);
        drop(hold);
        assert_eq!(volumes.all().len(), 1);
        let mut hold = VolumeHold::new(&volumes, false);
        let anonymous = take(&mut hold);
        assert_eq!(hold.keep(), [anonymous]);
        assert_eq!(volumes.all().len(), 2);
    }
}
