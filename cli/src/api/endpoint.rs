//! Which address the daemon is at, and the folders a daemon started from here keeps its state in.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;

use super::address::Address;
use super::tls::TlsSpec;
use crate::contexts::{CONTEXT_VARIABLE, ContextError, Current, DEFAULT, Store};

/// Names the daemon when `--host` does not.
const HOST_VARIABLE: &str = "HULL_HOST";

/// A host that was named but cannot be used.
#[derive(Debug, Error)]
pub(crate) enum EndpointError {
    /// Another scheme than `unix://` and `tcp://`, or a relative path.
    #[error("host {host:?} cannot be used: write unix:///absolute/path/to/hull.sock or tcp://HOST[:PORT]")]
    Unsupported {
        /// What was given.
        host: String,
    },
    /// Two daemons are named.
    #[error("conflicting options: cannot specify both --host and --context")]
    Conflict,
    /// The context cannot be had.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The folder for this user's socket belongs to somebody else, who could answer in its place.
    #[error("{} belongs to user {owner}: remove it, or set XDG_RUNTIME_DIR to a folder of your own", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
    },
}

/// Which daemon the command line means.
#[derive(Debug, Default, Args)]
pub(crate) struct HostOptions {
    /// Daemon to connect to (default: the one of this user, started when it is not there)
    #[arg(short = 'H', long, value_name = "URL")]
    host: Option<String>,

    /// Name of the context to use to connect to the daemon (overrides HULL_HOST env var and default context set with "hull
    /// context use")
    #[arg(short, long, value_name = "CONTEXT")]
    context: Option<String>,

    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    tls: bool,

    /// Use TLS and verify the remote
    #[arg(long)]
    tlsverify: bool,

    /// Trust certs signed only by this CA (default: ca.pem in $HULL_CERT_PATH or ~/.hull)
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,

    /// Path to TLS certificate file (default: cert.pem in $HULL_CERT_PATH or ~/.hull)
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,

    /// Path to TLS key file (default: key.pem in $HULL_CERT_PATH or ~/.hull)
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
}

impl HostOptions {
    /// The name of the context that is in use; what names a daemon itself is the default one.
    pub(crate) fn context(&self) -> Result<String, EndpointError> {
        match (&self.context, &self.host) {
            (Some(_), Some(_)) => Err(EndpointError::Conflict),
            (Some(context), None) => Ok(context.clone()),
            (None, Some(_)) => Ok(DEFAULT.to_owned()),
            (None, None) if Self::host_variable().is_some() => Ok(DEFAULT.to_owned()),
            (None, None) => match variable(&[CONTEXT_VARIABLE]) {
                Some(context) => Ok(context),
                None => Ok(Current::load()?.name().to_owned()),
            },
        }
    }

    /// The variable that names a daemon, if one does.
    pub(crate) fn host_variable() -> Option<&'static str> {
        variable(&[HOST_VARIABLE]).map(|_| HOST_VARIABLE)
    }

    /// `--host` first, then `HULL_HOST`, then the default socket of this user.
    pub(crate) fn default_endpoint(&self) -> Result<Endpoint, EndpointError> {
        match self.host.clone().or_else(|| variable(&[HOST_VARIABLE])) {
            Some(host) => Ok(Endpoint {
                address: Address::parse(&host)?,
                tls: self.tls(),
                named: true,
            }),
            None => {
                let directories = Directories::of_this_user();
                check_owner(&directories.runtime)?;
                Ok(Endpoint {
                    address: Address::Unix(directories.socket()),
                    tls: None,
                    named: false,
                })
            }
        }
    }

    /// TLS, if anything asks for it. As with Docker, usual files that are not there are not meant.
    fn tls(&self) -> Option<TlsSpec> {
        let verify = self.tlsverify || variable(&["HULL_TLS_VERIFY", "DOCKER_TLS_VERIFY"]).is_some();
        if !verify && !self.tls {
            return None;
        }
        let folder =
            variable(&["HULL_CERT_PATH", "DOCKER_CERT_PATH"]).map_or_else(config_folder, PathBuf::from);
        let file = |given: &Option<PathBuf>, usual| {
            let usual = || Some(folder.join(usual)).filter(|path| path.exists());
            given.clone().or_else(usual)
        };
        Some(TlsSpec {
            verify,
            authorities: file(&self.tlscacert, "ca.pem"),
            certificate: file(&self.tlscert, "cert.pem"),
            key: file(&self.tlskey, "key.pem"),
        })
    }
}

/// The first of these variables that says something.
fn variable(names: &[&str]) -> Option<String> {
    names
        .iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Where the contexts and the usual certificates lie: `$HULL_CONFIG`, else `~/.hull`.
pub(crate) fn config_folder() -> PathBuf {
    absolute("HULL_CONFIG").unwrap_or_else(|| absolute("HOME").unwrap_or_else(|| "/".into()).join(".hull"))
}

/// The daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: Address,
    /// TLS, for TCP.
    pub(crate) tls: Option<TlsSpec>,
    /// Whether the user named it. Only the default one is started when nobody listens there.
    pub(crate) named: bool,
}

impl Endpoint {
    /// That of the context in use.
    pub(crate) fn select(options: &HostOptions) -> Result<Self, EndpointError> {
        let name = options.context()?;
        if name == DEFAULT {
            return options.default_endpoint();
        }
        let store = Store::open();
        let meta = store.get(&name)?;
        Ok(Self {
            address: Address::parse(&meta.endpoints.docker.host)?,
            tls: store.tls(&meta),
            named: true,
        })
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

    fn host(host: &str) -> HostOptions {
        HostOptions {
            host: Some(host.to_owned()),
            ..HostOptions::default()
        }
    }

    #[test]
    fn a_named_unix_socket_is_used_as_it_is() {
        let endpoint = Endpoint::select(&host("unix:///run/other.sock")).unwrap();
        assert_eq!(endpoint.address, Address::Unix("/run/other.sock".into()));
        assert!(endpoint.named);
    }

    #[test]
    fn files_that_are_named_are_used_and_usual_ones_only_where_they_are() {
        let options = HostOptions {
            tlsverify: true,
            tlscacert: Some("/nonexistent/ca.pem".into()),
            ..host("tcp://a")
        };
        let tls = Endpoint::select(&options).unwrap().tls.unwrap();
        assert!(tls.verify);
        assert_eq!(tls.authorities, Some("/nonexistent/ca.pem".into()));
        assert_eq!(Endpoint::select(&host("tcp://a")).unwrap().tls, None);
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
}
