//! The store's files: where they are, how they appear, how processes keep out of each other's way.

use crate::digest::Digest;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Why a file of the store could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct StateError {
    /// What was tried.
    action: &'static str,
    /// On which file.
    path: PathBuf,
    /// What the system said.
    #[source]
    source: io::Error,
}

impl StateError {
    /// For `map_err`.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// A store's directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    /// Locked shared as long as the store is open.
    users: File,
}

impl StateDir {
    /// Opens the directory, makes what is missing, and sweeps away unfinished files if nobody else is there.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        for directory in [root.join("blobs/sha256"), root.join("layers"), root.join("tmp")] {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&directory);
            made.map_err(StateError::of("create the directory", &directory))?;
        }
        let state = Self {
            root: root.to_owned(),
            users: lock_file(&root.join("lock"))?,
        };
        let alone = state.alone()?;
        if alone.is_some() {
            remove_files_in(&state.temporary())?;
        }
        drop(alone);
        Ok(state)
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(format!("sha256-{}.erofs", diff_id.hex()))
    }

    /// The layer whose file has this path.
    pub(crate) fn layer_at(&self, path: &Path) -> Option<Digest> {
        let name = path.strip_prefix(self.layers()).ok()?.to_str()?;
        let digits = name.strip_prefix("sha256-")?.strip_suffix(".erofs")?;
        format!("sha256:{digits}").parse().ok()
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.root.join("catalog.db")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Keeps every other process from opening the store, if none has it open.
    pub(crate) fn alone(&self) -> Result<Option<Alone<'_>>, StateError> {
        let (users, sweep) = (self.root.join("lock"), self.root.join("sweep.lock"));
        let guard = lock_file(&sweep)?;
        lock(&guard, FlockOperation::LockExclusive).map_err(StateError::of("lock", &sweep))?;
        // Changing a lock may lose it for a moment, but whoever would use that moment waits for the guard.
        match lock(&self.users, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Alone {
                state: self,
                _guard: guard,
            })),
            Err(busy) if busy.kind() == io::ErrorKind::WouldBlock => {
                lock(&self.users, FlockOperation::LockShared).map_err(StateError::of("lock", &users))?;
                Ok(None)
            }
            Err(error) => Err(StateError::of("lock", &users)(error)),
        }
    }

    /// Waits until no other process writes the blob `digest`. The lock ends when it is dropped.
    pub(crate) fn lock_blob(&self, digest: &Digest) -> Result<BlobLock, StateError> {
        let path = self.temporary().join(format!("{}.lock", digest.hex()));
        loop {
            let file = lock_file(&path)?;
            lock(&file, FlockOperation::LockExclusive).map_err(StateError::of("lock", &path))?;
            // The one before removed the file while we waited: lock the one that others will find.
            let (ours, there) = (file.metadata(), fs::metadata(&path));
            if let (Ok(ours), Ok(there)) = (ours, there)
                && ours.ino() == there.ino()
            {
                return Ok(BlobLock { path, _file: file });
            }
        }
    }

    /// A new file without a lasting name; it is gone when it is dropped.
    pub(crate) fn create_temporary(&self) -> Result<NamedTempFile, StateError> {
        let directory = self.temporary();
        NamedTempFile::new_in(&directory).map_err(StateError::of("create a file in", &directory))
    }

    /// A new file that has no name at all.
    pub(crate) fn create_scratch(&self) -> Result<File, StateError> {
        let directory = self.temporary();
        tempfile::tempfile_in(&directory).map_err(StateError::of("create a file in", &directory))
    }

    /// Writes a blob of a few kilobytes and gives it its name.
    pub(crate) fn write_blob(&self, digest: &Digest, content: &[u8]) -> Result<(), StateError> {
        let mut file = self.create_temporary()?;
        file.write_all(content)
            .map_err(StateError::of("write", file.path()))?;
        finish(&file)?;
        self.publish(vec![(file, self.blob(digest))])
    }

    /// Gives finished files their names; what has one already is damaged or has the same content.
    pub(crate) fn publish(&self, files: Vec<(NamedTempFile, PathBuf)>) -> Result<(), StateError> {
        let mut directories: Vec<PathBuf> = Vec::new();
        for (file, target) in files {
            file.persist(&target)
                .map_err(|error| StateError::of("create", &target)(error.error))?;
            directories.extend(target.parent().map(Path::to_owned));
        }
        directories.dedup();
        directories
            .iter()
            .try_for_each(|directory| sync_directory(directory))
    }
}

/// No other process has the store open, and none can open it.
pub(crate) struct Alone<'a> {
    state: &'a StateDir,
    _guard: File,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Whoever waits for the guard finds the lock shared: fields are dropped after this.
        let _ = lock(&self.state.users, FlockOperation::LockShared);
    }
}

/// This process is the one that writes a blob.
pub(crate) struct BlobLock {
    path: PathBuf,
    _file: File,
}

impl Drop for BlobLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a file read-only and waits until it is on the disk.
pub(crate) fn finish(file: &NamedTempFile) -> Result<(), StateError> {
    let read_only = file.as_file().set_permissions(Permissions::from_mode(0o444));
    read_only
        .and_then(|()| file.as_file().sync_all())
        .map_err(StateError::of("sync", file.path()))
}

/// Removes a file; none there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

fn lock_file(path: &Path) -> Result<File, StateError> {
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path);
    file.map_err(StateError::of("open", path))
}

fn lock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, operation) {
            Err(rustix::io::Errno::INTR) => continue,
            result => break Ok(result?),
        }
    }
}

fn remove_files_in(directory: &Path) -> Result<(), StateError> {
    let entries = fs::read_dir(directory).map_err(StateError::of("list", directory))?;
    for entry in entries {
        let path = entry.map_err(StateError::of("list", directory))?.path();
        fs::remove_file(&path).map_err(StateError::of("remove the leftover", &path))?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<(), StateError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(StateError::of("sync", path))
}
