//! Which socket the daemon is at, and the folders a daemon started from here keeps its state in.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Names the daemon when `--host` does not.
const HOST_VARIABLE: &str = "HULL_HOST";

/// A host that was named but cannot be used.
#[derive(Debug, Error)]
pub(crate) enum EndpointError {
    /// Another scheme than `unix://`, or a relative path.
    #[error("host {host:?} cannot be used: write unix:///absolute/path/to/hull.sock")]
    Unsupported {
        /// What was given.
        host: String,
    },
    /// The folder for this user's socket belongs to somebody else, who could answer in its place.
    #[error("{} belongs to user {owner}: remove it, or set XDG_RUNTIME_DIR to a folder of your own", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
    },
}

/// The daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Path of the unix socket.
    pub(crate) socket: PathBuf,
    /// Whether the user named it. Only the default one is started when nobody listens there.
    pub(crate) named: bool,
}

impl Endpoint {
    /// `--host` first, then `HULL_HOST`, then the default socket of this user.
    pub(crate) fn select(flag: Option<&str>) -> Result<Self, EndpointError> {
        let variable = env::var(HOST_VARIABLE).ok().filter(|host| !host.is_empty());
        match flag.map(str::to_owned).or(variable) {
            Some(host) => Self::named(&host),
            None => {
                let directories = Directories::of_this_user();
                check_owner(&directories.runtime)?;
                Ok(Self {
                    socket: directories.socket(),
                    named: false,
                })
            }
        }
    }

    fn named(host: &str) -> Result<Self, EndpointError> {
        match host.strip_prefix("unix://").map(Path::new) {
            Some(path) if path.is_absolute() => Ok(Self {
                socket: path.to_owned(),
                named: true,
            }),
            _ => Err(EndpointError::Unsupported {
                host: host.to_owned(),
            }),
        }
    }
}

/// Below `/tmp` anybody can make a folder with our name. What is not there yet is made by us.
fn check_owner(folder: &Path) -> Result<(), EndpointError> {
    let owner = fs::symlink_metadata(folder).map(|metadata| metadata.uid());
    match owner {
        Ok(owner) if owner != rustix::process::getuid().as_raw() => Err(EndpointError::Foreign {
            folder: folder.to_owned(),
            owner,
        }),
        _ => Ok(()),
    }
}

/// Where hull keeps things for one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directories {
    /// Images, containers and disks; outlives a reboot.
    pub(crate) state: PathBuf,
    /// Sockets, locks and the daemon's log; gone after a reboot.
    pub(crate) runtime: PathBuf,
}

impl Directories {
    /// What `HULL_ROOT` and `HULL_RUNTIME` name; else the system's folders for root, and the XDG base directories for
    /// everybody else.
    pub(crate) fn of_this_user() -> Self {
        let usual = match rustix::process::getuid() {
            uid if uid.is_root() => Self {
                state: "/var/lib/hull".into(),
                runtime: "/run/hull".into(),
            },
            uid => Self::below_home(uid.as_raw()),
        };
        Self {
            state: absolute("HULL_ROOT").unwrap_or(usual.state),
            runtime: absolute("HULL_RUNTIME").unwrap_or(usual.runtime),
        }
    }

    fn below_home(uid: u32) -> Self {
        let data =
            absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        let private_tmp = PathBuf::from(format!("/tmp/hull-{uid}"));
        Self {
            state: data.map_or_else(|| private_tmp.join("data"), |data| data.join("hull")),
            runtime: absolute("XDG_RUNTIME_DIR").map_or(private_tmp, |run| run.join("hull")),
        }
    }

    /// The API socket of the daemon that uses these folders.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime.join("hull.sock")
    }
}

/// The absolute path in an environment variable.
fn absolute(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_unix_socket_is_used_as_it_is() {
        let endpoint = Endpoint::select(Some("unix:///run/other.sock")).unwrap();
        assert_eq!(endpoint.socket, Path::new("/run/other.sock"));
        assert!(endpoint.named);
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused_and_one_of_ours_is_not() {
        let folder = tempfile::tempdir().unwrap();
        check_owner(folder.path()).unwrap();
        check_owner(&folder.path().join("not-there-yet")).unwrap();
        let root = Path::new("/");
        let ours = rustix::process::getuid().is_root();
        assert_eq!(check_owner(root).is_ok(), ours);
    }

    #[test]
    fn hosts_that_are_no_absolute_unix_path_are_refused_by_name() {
        for host in ["tcp://127.0.0.1:2375", "unix://relative.sock", "/run/hull.sock"] {
            let error = Endpoint::select(Some(host)).unwrap_err().to_string();
            assert!(error.contains(host), "{error}");
        }
    }
}
