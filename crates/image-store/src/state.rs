//! The store's files: where they are, how they appear, how processes keep out of each other's way.

use crate::digest::Digest;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};

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
}

impl StateDir {
    /// Opens the directory, makes what is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        let state = Self {
            root: root.to_owned(),
        };
        for directory in [state.blobs(), state.layers(), state.temporary()] {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&directory);
            made.map_err(StateError::of("create the directory", &directory))?;
        }
        Ok(state)
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(layer_name(diff_id))
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.root.join("catalog.json")
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Held while files are written that no catalog names yet: nobody sweeps meanwhile.
    pub(crate) fn lock_against_sweep(&self) -> Result<File, StateError> {
        self.lock("lock", FlockOperation::LockShared)
    }

    /// Held from reading the catalog to replacing it.
    pub(crate) fn lock_catalog(&self) -> Result<File, StateError> {
        self.lock("catalog.lock", FlockOperation::LockExclusive)
    }

    /// The lock ends when the file is dropped, or its process.
    fn lock(&self, name: &str, operation: FlockOperation) -> Result<File, StateError> {
        let path = self.root.join(name);
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(StateError::of("open", &path))?;
        loop {
            match flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => continue,
                result => break result.map_err(|error| StateError::of("lock", &path)(error.into()))?,
            }
        }
        Ok(file)
    }

    /// A new file without a lasting name; it is gone when it is dropped.
    pub(crate) fn create_temporary(&self) -> Result<NamedTempFile, StateError> {
        let directory = self.temporary();
        NamedTempFile::new_in(&directory).map_err(StateError::of("create a file in", &directory))
    }

    /// Removes what interrupted imports left: temporary files, and blobs and layers that are not to be
    /// kept. Does nothing while another process writes; then that one's successor will do it.
    pub(crate) fn sweep(
        &self,
        keep: impl FnOnce() -> Result<(BTreeSet<Digest>, BTreeSet<Digest>), crate::catalog::CatalogError>,
    ) -> Result<(), SweepError> {
        let _lock = match self.lock("lock", FlockOperation::NonBlockingLockExclusive) {
            Err(busy) if busy.source.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            result => result?,
        };
        let (blobs, layers) = keep()?;
        let blobs: BTreeSet<String> = blobs.iter().map(Digest::hex).collect();
        let layers: BTreeSet<String> = layers.iter().map(layer_name).collect();
        remove_all_but(&self.temporary(), &BTreeSet::new())?;
        remove_all_but(&self.blobs(), &blobs)?;
        remove_all_but(&self.layers(), &layers)?;
        Ok(())
    }
}

/// Why a sweep failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
}

fn layer_name(diff_id: &Digest) -> String {
    format!("sha256-{}.erofs", diff_id.hex())
}

fn remove_all_but(directory: &Path, keep: &BTreeSet<String>) -> Result<(), StateError> {
    let entries = fs::read_dir(directory).map_err(StateError::of("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(StateError::of("list", directory))?;
        if !entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
            let path = entry.path();
            fs::remove_file(&path).map_err(StateError::of("remove the leftover", &path))?;
        }
    }
    Ok(())
}

/// Files that become visible together, or not at all: what is dropped before [`Staging::publish`] is gone.
pub(crate) struct Staging<'a> {
    state: &'a StateDir,
    files: Vec<(TempPath, PathBuf)>,
    lock: File,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(state: &'a StateDir) -> Result<Self, StateError> {
        Ok(Self {
            state,
            files: Vec::new(),
            lock: state.lock_against_sweep()?,
        })
    }

    /// The file that `target` is or will be, if it is staged or exists and is `sound`.
    pub(crate) fn find(&self, target: &Path, sound: impl FnOnce(&Path) -> bool) -> Option<PathBuf> {
        let staged = self.files.iter().find(|(_, path)| path == target);
        let path = staged.map_or(target, |(file, _)| file);
        sound(path).then(|| path.to_owned())
    }

    /// Syncs `file`, which is to become `target`.
    pub(crate) fn add(&mut self, file: NamedTempFile, target: PathBuf) -> Result<(), StateError> {
        let read_only = file.as_file().set_permissions(Permissions::from_mode(0o444));
        read_only
            .and_then(|()| file.as_file().sync_all())
            .map_err(StateError::of("sync", file.path()))?;
        self.files.push((file.into_temp_path(), target));
        Ok(())
    }

    /// Stages a blob of a few kilobytes.
    pub(crate) fn add_blob(&mut self, digest: &Digest, content: &[u8]) -> Result<(), StateError> {
        let target = self.state.blob(digest);
        if self
            .find(&target, |path| {
                fs::read(path).is_ok_and(|existing| existing == content)
            })
            .is_some()
        {
            return Ok(());
        }
        let mut file = self.state.create_temporary()?;
        io::Write::write_all(&mut file, content).map_err(StateError::of("write", file.path()))?;
        self.add(file, target)
    }

    /// Gives every file its name; what has it already is damaged or has the same content. The lock against
    /// sweeping is returned; it is to be held until the catalog names the files.
    pub(crate) fn publish(self) -> Result<File, StateError> {
        let mut directories = BTreeSet::new();
        for (file, target) in self.files {
            file.persist(&target)
                .map_err(|error| StateError::of("create", &target)(error.error))?;
            directories.extend(target.parent().map(Path::to_owned));
        }
        directories
            .iter()
            .try_for_each(|directory| sync_directory(directory))?;
        Ok(self.lock)
    }
}

/// Puts `content` in the place of `path`: whoever opens it sees the old or the new, also after a crash.
pub(crate) fn replace_file(state: &StateDir, path: &Path, content: &[u8]) -> Result<(), StateError> {
    let mut file = state.create_temporary()?;
    io::Write::write_all(&mut file, content).map_err(StateError::of("write", file.path()))?;
    file.as_file()
        .sync_all()
        .map_err(StateError::of("sync", file.path()))?;
    file.persist(path)
        .map_err(|error| StateError::of("replace", path)(error.error))?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

fn sync_directory(path: &Path) -> Result<(), StateError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(StateError::of("sync", path))
}
