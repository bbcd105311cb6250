//! Contents of files of earlier contexts, so that a client sends only what has changed.
//!
//! One folder, one file for each content, named by its digest. A file is written under another name and renamed when it is whole, so
//! that a process that is killed leaves nothing under a digest that is not it. A host that loses power may, because nothing is
//! synced: such a file has another length, or is found out when it is read.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use image_store::{Digest, Hasher};

use crate::spool::FileRange;

/// What unfinished files begin with.
const TEMPORARY: &str = "tmp-";
/// The last use of a file is written down as its time, but no more often than this.
const TOUCH: Duration = Duration::from_secs(3600);

/// Why the store of contents cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextStoreError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error("{0} is in use by another process; end that one first")]
    InUse(String),
    /// Content of another size than announced.
    #[error("the content {digest} has not the {expected} bytes that were announced; send it again")]
    Size {
        /// The content.
        digest: Digest,
        /// What was announced, in bytes.
        expected: u64,
    },
}

/// A bounded store of contents. What was used least recently makes room for what comes; what a [`Context`](super::Context) uses
/// stays. Clones share it.
#[derive(Debug, Clone)]
pub struct ContextStore(Arc<StoreShared>);

#[derive(Debug)]
pub(super) struct StoreShared {
    folder: PathBuf,
    limit: u64,
    state: Mutex<State>,
    /// Locked as long as the store is open.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    stored: HashMap<Digest, Stored>,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
struct Stored {
    size: u64,
    /// The store's clock when it was used last.
    used: u64,
    touched: SystemTime,
    leases: u32,
}

/// Room for content that is yet to come.
#[derive(Debug)]
pub struct Room {
    store: Arc<StoreShared>,
    size: u64,
}

/// Content that is not evicted.
#[derive(Debug)]
pub(super) struct Lease {
    store: Arc<StoreShared>,
    digest: Digest,
}

impl ContextStore {
    /// Opens the store in `folder`, which is made if it is not there, and removes what a process left unfinished.
    pub fn open(folder: &Path, limit: u64) -> Result<Self, ContextStoreError> {
        fs::create_dir_all(folder).map_err(system("make", folder))?;
        let lock_path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path);
        let lock = lock.map_err(system("open", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => ContextStoreError::InUse(folder.display().to_string()),
            fs::TryLockError::Error(source) => system("lock", &lock_path)(source),
        })?;
        let state = State::read(folder)?;
        let store = Self(Arc::new(StoreShared {
            folder: folder.to_owned(),
            limit,
            state: Mutex::new(state),
            _lock: lock,
        }));
        // The limit may have become smaller; what does not fit makes room now.
        let evicted = store.0.state().make_room(0, limit);
        store.0.remove(&evicted.unwrap_or_default());
        Ok(store)
    }

    /// What is stored, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.state().bytes
    }

    /// The contents that it lacks: they have to be sent.
    pub fn missing(&self, contents: impl IntoIterator<Item = (Digest, u64)>) -> Vec<Digest> {
        let lacks = |(digest, size): &(Digest, u64)| self.lease(digest, *size).is_none();
        let missing: BTreeSet<Digest> = contents
            .into_iter()
            .filter(lacks)
            .map(|(digest, _)| digest)
            .collect();
        missing.into_iter().collect()
    }

    /// Makes room for so many bytes; `None` if what is in use leaves too little.
    pub fn reserve(&self, size: u64) -> Option<Room> {
        let mut state = self.0.state();
        let evicted = state.make_room(size, self.0.limit)?;
        self.0.remove(&evicted);
        state.bytes += size;
        Some(Room {
            store: self.0.clone(),
            size,
        })
    }

    /// Throws away all that nobody uses; how many bytes that were.
    pub fn clear(&self) -> u64 {
        let mut state = self.0.state();
        let before = state.bytes;
        let unused = state.unused();
        unused.iter().for_each(|(_, digest, _)| state.forget(digest));
        let digests: Vec<Digest> = unused.into_iter().map(|(_, digest, _)| digest).collect();
        self.0.remove(&digests);
        before - state.bytes
    }

    /// Holds content, if it is there.
    pub(super) fn lease(&self, digest: &Digest, size: u64) -> Option<Lease> {
        let mut state = self.0.state();
        state.clock += 1;
        let now = state.clock;
        let stored = state
            .stored
            .get_mut(digest)
            .filter(|stored| stored.size == size)?;
        stored.used = now;
        stored.leases += 1;
        let moment = SystemTime::now();
        if moment
            .duration_since(stored.touched)
            .is_ok_and(|since| since > TOUCH)
        {
            stored.touched = moment;
            let path = self.0.path(digest);
            // Only the order of evictions after the next start depends on it.
            let _ = File::options()
                .write(true)
                .open(path)
                .and_then(|file| file.set_modified(moment));
        }
        Some(Lease {
            store: self.0.clone(),
            digest: *digest,
        })
    }
}

impl Room {
    /// Takes the content in; what it is.
    pub fn fill(self, content: &mut dyn Read) -> Result<Digest, ContextStoreError> {
        let (folder, expected) = (&self.store.folder, self.size);
        let temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder);
        let mut temporary = temporary.map_err(system("write in", folder))?;
        let written = copy_hashed(content, temporary.as_file_mut(), expected);
        let (length, digest) = written.map_err(system("write", temporary.path()))?;
        if length != expected {
            return Err(ContextStoreError::Size { digest, expected });
        }
        let mut state = self.store.state();
        let path = self.store.path(&digest);
        let renamed = temporary.persist(&path).map_err(|error| error.error);
        renamed.map_err(system("write", &path))?;
        state.add(digest, expected, SystemTime::now());
        Ok(digest)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What has come is counted by itself.
        self.store.state().bytes -= self.size;
    }
}

impl StoreShared {
    /// The content, measured against its digest while it is read from beginning to end.
    pub(super) fn open(self: &Arc<Self>, digest: &Digest, size: u64) -> io::Result<StoredContent> {
        let file = File::open(self.path(digest))?;
        if file.metadata()?.len() != size {
            self.forget(digest);
            return Err(damaged());
        }
        Ok(StoredContent {
            content: FileRange::new(Arc::new(file), 0, size),
            left: size,
            hasher: Some(Hasher::default()),
            digest: *digest,
            store: self.clone(),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Throws away what is damaged, so that it is sent again.
    fn forget(&self, digest: &Digest) {
        self.state().forget(digest);
        self.remove(std::slice::from_ref(digest));
    }

    /// Removes files that the state does not have any more. One that stays is found again at the next start.
    fn remove(&self, digests: &[Digest]) {
        for digest in digests {
            if let Err(error) = fs::remove_file(self.path(digest)) {
                tracing::warn!(%error, %digest, "content of a build context could not be removed");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Finds what is stored, the file that was used longest ago first, and removes what was not finished.
    fn read(folder: &Path) -> Result<Self, ContextStoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(system("read", folder))? {
            let entry = entry.map_err(system("read", folder))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(TEMPORARY) {
                fs::remove_file(entry.path()).map_err(system("remove", &entry.path()))?;
            } else if let Ok(digest) = format!("sha256:{name}").parse::<Digest>() {
                let metadata = entry.metadata().map_err(system("examine", &entry.path()))?;
                let touched = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((touched, digest, metadata.len()));
            }
        }
        found.sort_unstable_by_key(|(touched, ..)| *touched);
        let mut state = Self::default();
        for (touched, digest, size) in found {
            state.add(digest, size, touched);
        }
        Ok(state)
    }

    fn add(&mut self, digest: Digest, size: u64, touched: SystemTime) {
        self.clock += 1;
        let leases = self.stored.get(&digest).map_or(0, |old| old.leases);
        let stored = Stored {
            size,
            used: self.clock,
            touched,
            leases,
        };
        if let Some(old) = self.stored.insert(digest, stored) {
            self.bytes -= old.size;
        }
        self.bytes += size;
    }

    fn forget(&mut self, digest: &Digest) {
        if let Some(old) = self.stored.remove(digest) {
            self.bytes -= old.size;
        }
    }

    /// Forgets what has to make room for `size` bytes; `None`, and nothing is forgotten, if what is in use leaves too little.
    fn make_room(&mut self, size: u64, limit: u64) -> Option<Vec<Digest>> {
        let mut left = (self.bytes.saturating_add(size)).saturating_sub(limit);
        if left == 0 {
            return Some(Vec::new());
        }
        let mut evicted = Vec::new();
        for (_, digest, size) in self.unused() {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(size);
            evicted.push(digest);
        }
        if left > 0 {
            return None;
        }
        evicted.iter().for_each(|digest| self.forget(digest));
        Some(evicted)
    }
}

impl State {
    /// When it was used, what it is and its size in bytes, of what nobody uses; the one that was not used for longest first.
    fn unused(&self) -> Vec<(u64, Digest, u64)> {
        let unused = self.stored.iter().filter(|(_, stored)| stored.leases == 0);
        let mut unused: Vec<(u64, Digest, u64)> = unused
            .map(|(digest, stored)| (stored.used, *digest, stored.size))
            .collect();
        unused.sort_unstable_by_key(|(used, ..)| *used);
        unused
    }
}

impl Lease {
    pub(super) fn store(&self) -> Arc<StoreShared> {
        self.store.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(stored) = self.store.state().stored.get_mut(&self.digest) {
            stored.leases = stored.leases.saturating_sub(1);
        }
    }
}

/// Content of the store. Its last bytes come only if it is what its digest says.
pub(super) struct StoredContent {
    content: FileRange,
    left: u64,
    /// `None` once it is not read in order.
    hasher: Option<Hasher>,
    digest: Digest,
    store: Arc<StoreShared>,
}

impl Read for StoredContent {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(into)?;
        self.left = self.left.saturating_sub(count as u64);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&into[..count]);
            if self.left == 0 && hasher.clone().finish() != self.digest {
                self.store.forget(&self.digest);
                return Err(damaged());
            }
        }
        Ok(count)
    }
}

impl Seek for StoredContent {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.content.seek(to)?;
        self.hasher = None;
        Ok(position)
    }
}

fn damaged() -> io::Error {
    io::Error::other("what was kept of an earlier build is damaged and was thrown away; build again")
}

/// Copies no more than a byte beyond `size`; how much, and its digest.
fn copy_hashed(from: &mut dyn Read, to: &mut File, size: u64) -> io::Result<(u64, Digest)> {
    let mut from = from.take(size.saturating_add(1));
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((length, hasher.finish())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        length += count as u64;
    }
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ContextStoreError {
    let path = path.display().to_string();
    move |source| ContextStoreError::System { action, path, source }
}
