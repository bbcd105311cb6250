//! One daemon for each folder: a lock that the kernel drops with its holder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a folder could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another daemon has it.
    #[error(
        "another hulld (pid {pid}) works on {}: stop it, or give this one other folders with --root and --runtime",
        folder.display()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// The other's process id as its pid file tells it.
        pid: String,
    },
    /// The lock's file could not be used.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A folder that no other daemon works on while this lives. Its `hulld.pid` holds this process's id.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the folder, or says who has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("hulld.lock");
        let failed = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(pid_file(folder)).unwrap_or_default();
                let pid = if pid.is_empty() { "unknown" } else { pid.trim() };
                return Err(LockError::Held {
                    folder: folder.to_owned(),
                    pid: pid.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let lock = Self {
            folder: folder.to_owned(),
            _file: file,
        };
        let written =
            File::create(pid_file(folder)).and_then(|mut file| writeln!(file, "{}", std::process::id()));
        written.map_err(|source| LockError::Io {
            path: pid_file(folder),
            source,
        })?;
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock's file stays: removing it would let two daemons hold locks on two files of one name.
        let _ = fs::remove_file(pid_file(&self.folder));
    }
}

fn pid_file(folder: &Path) -> PathBuf {
    folder.join("hulld.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_free_again_after_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let refused = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("pid {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        assert!(!pid_file(folder.path()).exists());
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_pid_file_that_a_crash_left_does_not_hold_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(pid_file(folder.path()), "1\n").unwrap();
        Lock::take(folder.path()).unwrap();
        let pid = fs::read_to_string(pid_file(folder.path()));
        assert!(pid.is_err(), "the pid file goes with the lock");
    }
}
