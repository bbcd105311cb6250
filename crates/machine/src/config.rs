//! How large the helper VM is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dirs::MachineDirs;
use crate::host::HostReport;

const MIB_PER_GIB: u64 = 1024;
const DEFAULT_MEMORY_MIB: u64 = 4 * MIB_PER_GIB;
const DEFAULT_DISK_GIB: u64 = 64;
/// Below this the VM holds its own image but hardly one microVM.
const MIN_MEMORY_MIB: u64 = 1024;
/// ext4 with its journal and one image; less is a mistake in the unit.
const MIN_DISK_GIB: u64 = 1;
const MAX_DISK_GIB: u64 = 16 * 1024;

/// A setting of the helper VM that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Less memory than the VM needs, or more than the host has.
    #[error(
        "the helper VM cannot have {asked} MiB of memory: at least {MIN_MEMORY_MIB} and at most {most} MiB are possible on this host"
    )]
    Memory {
        /// What was asked for, in MiB.
        asked: u64,
        /// The host's memory, in MiB.
        most: u64,
    },
    /// No CPU, or more than the host has.
    #[error("the helper VM cannot have {asked} CPUs: this host has {most}")]
    Cpus {
        /// What was asked for.
        asked: u32,
        /// The host's CPUs.
        most: u32,
    },
    /// A disk that is too small or absurdly large.
    #[error(
        "the helper VM cannot have a disk of {asked} GiB: {MIN_DISK_GIB} to {MAX_DISK_GIB} GiB are possible"
    )]
    Disk {
        /// What was asked for, in GiB.
        asked: u64,
    },
    /// The disk exists with another size.
    #[error(
        "the helper VM's disk {path} has {present} GiB and cannot become {asked} GiB; `hull machine rm` removes it with all that is on it"
    )]
    DiskExists {
        /// The disk's image.
        path: PathBuf,
        /// Its size, in GiB.
        present: u64,
        /// What was asked for, in GiB.
        asked: u64,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The settings' file is not what `init` writes.
    #[error("{path} is not a helper VM's configuration ({source}); remove it to go back to the defaults")]
    Syntax {
        /// The settings' file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
}

/// What a user asks of the helper VM; what is not said is chosen from the host at each start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MachineOptions {
    /// Memory in MiB; by default half of the host's, at most 4 GiB.
    pub memory_mib: Option<u64>,
    /// CPUs; by default all of the host's.
    pub cpus: Option<u32>,
    /// Size of the data disk in GiB; by default 64. The file is sparse.
    pub disk_gib: Option<u64>,
}

/// The size of a helper VM that is about to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// CPUs.
    pub cpus: u32,
    /// Size of the data disk in GiB.
    pub disk_gib: u64,
}

impl MachineOptions {
    /// Fill in the defaults for this host, and refuse what it cannot give.
    pub fn resolve(self, host: &HostReport) -> Result<MachineConfig, ConfigError> {
        let most = host.memory_mib;
        let memory_mib = self
            .memory_mib
            .unwrap_or_else(|| DEFAULT_MEMORY_MIB.min(most / 2).max(MIN_MEMORY_MIB));
        if !(MIN_MEMORY_MIB..=most).contains(&memory_mib) {
            return Err(ConfigError::Memory {
                asked: memory_mib,
                most,
            });
        }
        let cpus = self.cpus.unwrap_or(host.cpus);
        if cpus == 0 || cpus > host.cpus {
            return Err(ConfigError::Cpus {
                asked: cpus,
                most: host.cpus,
            });
        }
        let disk_gib = self.disk_gib.unwrap_or(DEFAULT_DISK_GIB);
        if !(MIN_DISK_GIB..=MAX_DISK_GIB).contains(&disk_gib) {
            return Err(ConfigError::Disk { asked: disk_gib });
        }
        Ok(MachineConfig {
            memory_mib,
            cpus,
            disk_gib,
        })
    }

    /// What `init` was told, or nothing when it never ran.
    pub fn load(dirs: &MachineDirs) -> Result<Self, ConfigError> {
        let path = dirs.config();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(ConfigError::File {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        serde_json::from_slice(&text).map_err(|source| ConfigError::Syntax { path, source })
    }

    /// Keep the options for all later starts.
    pub fn store(&self, dirs: &MachineDirs) -> Result<(), ConfigError> {
        let path = dirs.config();
        let file = |action, path: &PathBuf| {
            let path = path.clone();
            move |source| ConfigError::File { action, path, source }
        };
        private_folder(&dirs.state).map_err(file("create the folder", &dirs.state))?;
        let text = serde_json::to_vec_pretty(self).map_err(|source| ConfigError::Syntax {
            path: path.clone(),
            source,
        })?;
        let new = path.with_extension("json.new");
        fs::write(&new, text).map_err(file("write", &new))?;
        fs::rename(&new, &path).map_err(file("replace", &path))
    }
}

/// The VM's disk holds all that its containers keep: nobody else may read it.
fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl MachineConfig {
    /// Make the data disk when there is none. It is sparse and still without a file system: the VM
    /// formats it at its first start.
    pub fn ensure_disk(&self, dirs: &MachineDirs) -> Result<(), ConfigError> {
        let path = dirs.disk();
        let file = |action| {
            let path = path.clone();
            move |source| ConfigError::File { action, path, source }
        };
        private_folder(&dirs.state).map_err(file("create the folder of"))?;
        let bytes = self.disk_gib << 30;
        let disk = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(file("open the disk"))?;
        match disk.metadata().map_err(file("look at"))?.len() {
            0 => disk.set_len(bytes).map_err(file("size the disk")),
            present if present == bytes => Ok(()),
            present => Err(ConfigError::DiskExists {
                path: path.clone(),
                present: present >> 30,
                asked: self.disk_gib,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(memory_mib: u64, cpus: u32) -> HostReport {
        HostReport {
            memory_mib,
            cpus,
            ..HostReport::for_tests()
        }
    }

    #[test]
    fn defaults_are_half_of_a_small_host_and_4_gib_of_a_large_one() {
        let small = MachineOptions::default().resolve(&host(6000, 2)).unwrap();
        assert_eq!(
            small,
            MachineConfig {
                memory_mib: 3000,
                cpus: 2,
                disk_gib: 64
            }
        );
        let large = MachineOptions::default().resolve(&host(64_000, 8)).unwrap();
        assert_eq!(large.memory_mib, 4096);
    }

    #[test]
    fn what_the_host_does_not_have_is_refused() {
        let ask = |o: MachineOptions| o.resolve(&host(8192, 4)).unwrap_err().to_string();
        let none = MachineOptions::default();
        assert!(
            ask(MachineOptions {
                memory_mib: Some(1),
                ..none
            })
            .contains("1 MiB of memory")
        );
        assert!(
            ask(MachineOptions {
                memory_mib: Some(9000),
                ..none
            })
            .contains("at most 8192")
        );
        assert!(
            ask(MachineOptions {
                cpus: Some(5),
                ..none
            })
            .contains("this host has 4")
        );
        assert!(
            ask(MachineOptions {
                cpus: Some(0),
                ..none
            })
            .contains("0 CPUs")
        );
        assert!(
            ask(MachineOptions {
                disk_gib: Some(0),
                ..none
            })
            .contains("disk of 0 GiB")
        );
    }

    #[test]
    fn stored_options_come_back_and_a_torn_file_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let dirs = MachineDirs::new(tmp.path(), tmp.path(), Path::new("/lib"), Path::new("/s"));
        assert_eq!(MachineOptions::load(&dirs).unwrap(), MachineOptions::default());
        let options = MachineOptions {
            cpus: Some(3),
            ..MachineOptions::default()
        };
        options.store(&dirs).unwrap();
        assert_eq!(MachineOptions::load(&dirs).unwrap(), options);
        fs::write(dirs.config(), b"{\"cpus\":").unwrap();
        let error = MachineOptions::load(&dirs).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn the_disk_is_sparse_kept_and_never_resized() {
        use std::os::unix::fs::MetadataExt;
        let tmp = tempfile::tempdir().unwrap();
        let dirs = MachineDirs::new(tmp.path(), tmp.path(), Path::new("/lib"), Path::new("/s"));
        let config = MachineConfig {
            memory_mib: 1024,
            cpus: 1,
            disk_gib: 2,
        };
        config.ensure_disk(&dirs).unwrap();
        config.ensure_disk(&dirs).unwrap();
        let meta = fs::metadata(dirs.disk()).unwrap();
        assert_eq!(meta.len(), 2 << 30);
        assert_eq!(meta.blocks(), 0);
        assert_eq!(meta.mode() & 0o077, 0, "others may not read it");
        let other = MachineConfig {
            disk_gib: 3,
            ..config
        };
        assert!(matches!(
            other.ensure_disk(&dirs),
            Err(ConfigError::DiskExists {
                present: 2,
                asked: 3,
                ..
            })
        ));
    }
}
