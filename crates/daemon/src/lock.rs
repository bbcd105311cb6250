//! One daemon for each folder: a lock that the kernel drops with its holder.
//!
//! It is a record lock (fcntl(2)), not flock(2): a program that the daemon is about to run would hold the latter between
//! its fork and its exec, and a daemon that starts right after another one ended would find the folder taken.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

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
        /// The other's process id.
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
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => {
                return Err(LockError::Held {
                    folder: folder.to_owned(),
                    pid: holder(&file),
                });
            }
            Err(error) => return Err(failed(error.into())),
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

/// The process that holds the lock, unless it has just let go of it.
fn holder(file: &File) -> String {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock));
    let pid = lock.ok().flatten().and_then(|lock| lock.pid);
    pid.map_or("unknown".to_owned(), |pid| pid.to_string())
}

fn pid_file(folder: &Path) -> PathBuf {
    folder.join("hulld.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_goes_with_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let pid = fs::read_to_string(pid_file(folder.path())).unwrap();
        assert_eq!(pid.trim(), std::process::id().to_string());
        drop(lock);
        assert!(!pid_file(folder.path()).exists());
    }

    #[test]
    fn a_pid_file_that_a_crash_left_does_not_hold_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(pid_file(folder.path()), "1\n").unwrap();
        let _lock = Lock::take(folder.path()).unwrap();
        let pid = fs::read_to_string(pid_file(folder.path())).unwrap();
        assert_eq!(pid.trim(), std::process::id().to_string());
    }
}
