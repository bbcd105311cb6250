//! Folders that outlive builds: `RUN --mount=type=cache`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use builder::{Digest, Sharing};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::volumes::tree;
use crate::{EngineError, Result};

/// Folders of one cache whose builds do not share, at most.
const MOST_PRIVATE: usize = 64;

/// All of them, each in a folder that is named by what it is for.
#[derive(Debug)]
pub(super) struct CacheFolders {
    folder: PathBuf,
    /// Who has which.
    locks: Mutex<HashMap<PathBuf, Arc<RwLock<()>>>>,
}

/// A folder while a command has it.
#[derive(Debug)]
pub(super) struct CacheFolder {
    pub(super) path: PathBuf,
    _lock: Lock,
}

#[derive(Debug)]
enum Lock {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Alone { _guard: OwnedRwLockWriteGuard<()> },
}

impl CacheFolders {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            locks: Mutex::default(),
        }
    }

    fn lock_of(&self, path: &Path) -> Arc<RwLock<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has and nobody waits for.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(path.to_owned()).or_default().clone()
    }

    /// The folder of this name, made with this mode and owner if it is not there.
    pub(super) async fn take(
        &self,
        id: &str,
        sharing: Sharing,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<CacheFolder> {
        // A name that a Dockerfile gives is no name of a file.
        let base = self.folder.join(Digest::of(id.as_bytes()).hex());
        let (path, lock) = match sharing {
            Sharing::Shared => {
                let _guard = self.lock_of(&base).read_owned().await;
                (base, Lock::Shared { _guard })
            }
            Sharing::Locked => {
                let _guard = self.lock_of(&base).write_owned().await;
                (base, Lock::Alone { _guard })
            }
            Sharing::Private => self.private(&base)?,
        };
        if !path.is_dir() {
            self.make(&path, mode, owner)
                .map_err(EngineError::io("make the cache", &path))?;
        }
        Ok(CacheFolder { path, _lock: lock })
    }

    fn make(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let new = tempfile::Builder::new().prefix(GONE).tempdir_in(&self.folder)?;
        fs::set_permissions(new.path(), fs::Permissions::from_mode(mode & 0o7777))?;
        chown(new.path(), Some(owner.0), Some(owner.1))?;
        match fs::rename(new.path(), path) {
            // Somebody else was faster.
            Err(_) if path.is_dir() => Ok(()),
            renamed => renamed,
        }
    }

    /// The first one that nobody has.
    fn private(&self, base: &Path) -> Result<(PathBuf, Lock)> {
        for number in 0..MOST_PRIVATE {
            let path = base.with_extension(format!("private{number}"));
            if let Ok(_guard) = self.lock_of(&path).try_write_owned() {
                return Ok((path, Lock::Alone { _guard }));
            }
        }
        Err(EngineError::Conflict(format!(
            "{MOST_PRIVATE} commands use this cache for themselves already; try again when one has ended"
        )))
    }

    /// Removes all that nobody has; the bytes that were in them.
    pub(super) fn prune(&self) -> io::Result<u64> {
        let mut reclaimed: u64 = 0;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Ok(_guard) = self.lock_of(&path).try_write_owned() else {
                continue;
            };
            let size = tree::size(&path)?;
            // Nobody is to find half of it, also after a crash.
            let gone = tempfile::Builder::new()
                .prefix(GONE)
                .tempdir_in(&self.folder)?
                .keep();
            fs::rename(&path, &gone)?;
            tree::remove(&gone)?;
            reclaimed = reclaimed.saturating_add(size);
        }
        Ok(reclaimed)
    }

    /// Removes what a crash has left of folders that were made or removed.
    pub(super) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(GONE.as_bytes()) {
                tree::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The bytes in all of them.
    pub(super) fn size(&self) -> u64 {
        tree::size(&self.folder).unwrap_or_default()
    }
}

/// What the names begin with of folders that are not there yet or not any more.
const GONE: &str = ".gone-";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_in_use_stay_and_all_others_go() {
        let folder = tempfile::tempdir().unwrap();
        let caches = CacheFolders::new(folder.path().to_owned());
        let take = async |id: &str, sharing| caches.take(id, sharing, 0o750, (0, 0)).await.unwrap();
        let (one, again) = (
            take("apt", Sharing::Shared).await,
            take("apt", Sharing::Shared).await,
        );
        assert_eq!(one.path, again.path);
        assert_eq!(
            fs::metadata(&one.path).unwrap().permissions().mode() & 0o7777,
            0o750
        );
        let (mine, yours) = (
            take("own", Sharing::Private).await,
            take("own", Sharing::Private).await,
        );
        assert_ne!(mine.path, yours.path);
        // Deeper than a stack has room for.
        let mut deep = rustix::fs::open(
            &mine.path,
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&deep, "d", rustix::fs::Mode::RWXU).unwrap();
            deep = rustix::fs::openat(
                &deep,
                "d",
                rustix::fs::OFlags::DIRECTORY,
                rustix::fs::Mode::empty(),
            )
            .unwrap();
        }
        drop((deep, mine, again));
        caches.prune().unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        left.sort();
        let mut expected = vec![one.path.clone(), yours.path.clone()];
        expected.sort();
        assert_eq!(left, expected);
    }
}
