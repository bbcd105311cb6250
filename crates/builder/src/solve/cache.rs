//! Results of steps, by what they were made of: a file for each, which all builds share.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image_store::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::BuildError;

/// The largest entry, in bytes: what is larger is none.
const MAX_ENTRY: u64 = 64 << 10;

/// Entries that are kept, those without a size among them.
const MOST_ENTRIES: usize = 20_000;

/// What a step was made of. Equal keys have equal results.
#[derive(Clone)]
pub(super) struct Key(Hasher);

impl Key {
    /// Of a kind of step.
    pub(super) fn new(kind: &str) -> Self {
        let mut key = Key(Hasher::default());
        // The form of keys: another number makes all entries strangers.
        key.add("1");
        key.add(kind);
        key
    }

    /// Takes in one more part. Parts do not run together.
    pub(super) fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// Takes in a list.
    pub(super) fn add_all<T: AsRef<[u8]>>(&mut self, parts: impl IntoIterator<Item = T>) {
        let mut count: u64 = 0;
        for part in parts {
            self.add(part);
            count += 1;
        }
        self.0.update(&count.to_le_bytes());
    }

    pub(super) fn digest(&self) -> Digest {
        self.0.clone().finish()
    }
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// The image of the step and all below it (`sha256:HEX`); `None` for the time that a finished image tells of itself.
    pub image: Option<String>,
    /// When the step was done (RFC 3339).
    pub created: String,
    /// What the step was.
    pub description: String,
    /// The size of the files of its layer in bytes.
    pub size: u64,
}

/// An entry in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// Its name.
    pub id: String,
    /// The entry.
    pub entry: CacheEntry,
    /// When it was used last.
    pub used: SystemTime,
}

/// All results, in a folder.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens it; the folder is made if it is not there.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// The entry of a key. One that is damaged is none.
    pub(super) fn find(&self, key: &Key) -> Option<CacheEntry> {
        let path = self.path(&key.digest().hex());
        let entry = read(&path)?;
        // That it was used shows in its time; without it, it is only removed earlier.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(entry)
    }

    /// Keeps the result of a step.
    pub(super) fn keep(&self, key: &Key, entry: &CacheEntry) -> Result<(), BuildError> {
        let failed = |source| BuildError::Cache {
            folder: self.folder.clone(),
            source,
        };
        let bytes = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(self.path(&key.digest().hex()))
            .map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// All entries.
    pub fn list(&self) -> io::Result<Vec<CacheRecord>> {
        let mut records = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            let id = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".json"));
            let used = fs::metadata(&path).and_then(|metadata| metadata.modified());
            if let (Some(id), Ok(used), Some(entry)) = (id, used, read(&path)) {
                let id = id.to_owned();
                records.push(CacheRecord { id, entry, used });
            }
        }
        records.sort_by(|one, other| one.used.cmp(&other.used).then_with(|| one.id.cmp(&other.id)));
        Ok(records)
    }

    /// Removes what was used longest ago until the rest has at most so many bytes, and is not too much to look through; what was
    /// removed. Its images are the caller's business.
    pub fn trim(&self, most_bytes: u64) -> io::Result<Vec<CacheRecord>> {
        let records = self.list()?;
        let over = records.len().saturating_sub(MOST_ENTRIES);
        let too_large = over_size(&records, most_bytes);
        let mut removed = Vec::new();
        for (index, record) in records.into_iter().enumerate() {
            if index < over || too_large.contains(&record.id) {
                self.remove(&record)?;
                removed.push(record);
            }
        }
        Ok(removed)
    }

    /// Removes an entry. Its image is the caller's business.
    pub fn remove(&self, record: &CacheRecord) -> io::Result<()> {
        match fs::remove_file(self.path(&record.id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// The entries that have to go so that the others have at most so many bytes: of a list that begins with the one that was not used
/// for longest.
pub fn over_size(records: &[CacheRecord], most_bytes: u64) -> HashSet<String> {
    let sizes = records.iter().map(|record| record.entry.size);
    let mut total = sizes.fold(0_u64, u64::saturating_add);
    let mut over = HashSet::new();
    for record in records {
        if total <= most_bytes {
            break;
        }
        // What has no size makes no room.
        if record.entry.size > 0 {
            total = total.saturating_sub(record.entry.size);
            over.insert(record.id.clone());
        }
    }
    over
}

fn read(path: &Path) -> Option<CacheEntry> {
    let length = fs::metadata(path).ok()?.len();
    let bytes = (length <= MAX_ENTRY).then(|| fs::read(path).ok())??;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().to_owned()).unwrap();
        let key = |number: u64| {
            let mut key = Key::new("test");
            key.add(number.to_le_bytes());
            key
        };
        let start = SystemTime::now() - Duration::from_secs(3600);
        // The last ones are of no size.
        for (number, size) in [(0, 40), (1, 30), (2, 20), (3, 10), (4, 0)] {
            let entry = CacheEntry {
                image: Some(format!("image {number}")),
                created: String::new(),
                description: String::new(),
                size,
            };
            cache.keep(&key(number), &entry).unwrap();
            let file = fs::File::open(cache.path(&key(number).digest().hex())).unwrap();
            file.set_modified(start + Duration::from_secs(number)).unwrap();
        }
        let gone = |most| -> Vec<u64> {
            let removed = cache.trim(most).unwrap();
            removed.iter().map(|record| record.entry.size).collect()
        };
        assert_eq!(gone(100), [] as [u64; 0]);
        // Being used makes the first one the last to go.
        cache.find(&key(0)).unwrap();
        assert_eq!(gone(99), [30]);
        assert_eq!(gone(41), [20, 10]);
        assert_eq!(gone(0), [40]);
        assert_eq!(cache.list().unwrap().len(), 1);
    }
}
