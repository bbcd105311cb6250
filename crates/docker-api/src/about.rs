//! Where a daemon's parts lie: what `GET /info` tells beside Docker's own fields.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bollard_stubs::models::SystemInfo;
use engine::Info;
use serde::Serialize;

/// What the program around this API knows of itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Where it listens; what goes without TLS says so at its end.
    pub addresses: Vec<String>,
    /// Its configuration, whether or not it is there.
    pub config_file: Option<PathBuf>,
    /// Its log, if that is a file.
    pub log_file: Option<PathBuf>,
}

/// Docker's fields, and one of hull's: clients of Docker pass over it.
#[derive(Debug, Serialize)]
pub(crate) struct InfoBody {
    #[serde(flatten)]
    pub(crate) docker: SystemInfo,
    #[serde(rename = "Paths")]
    pub(crate) paths: Paths,
}

/// Paths as the daemon sees them: in the helper VM, they are the VM's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Paths {
    addresses: Vec<String>,
    #[serde(flatten)]
    paths: BTreeMap<&'static str, String>,
}

impl About {
    pub(crate) fn paths(&self, info: &Info) -> Paths {
        let shown = |path: &Path| path.display().to_string();
        let known = [
            ("Root", Some(shown(&info.root))),
            ("Containers", Some(shown(&info.root.join("containers")))),
            ("Volumes", Some(shown(&info.root.join("volumes")))),
            ("Runtime", Some(shown(&info.runtime))),
            ("Templates", Some(shown(&info.runtime.join("templates")))),
            ("ControlGroups", info.cgroup.as_deref().ok().map(shown)),
            ("Programs", Some(shown(&info.lib))),
            ("GuestKernel", Some(shown(&info.lib.join("vmlinux")))),
            ("Config", self.config_file.as_deref().map(shown)),
            ("Log", self.log_file.as_deref().map(shown)),
        ];
        let known = known.into_iter().filter_map(|(name, path)| Some((name, path?)));
        Paths {
            addresses: self.addresses.clone(),
            paths: known.collect(),
        }
    }

    /// What a user should know of it, in Docker's words.
    pub(crate) fn warnings(&self, info: &Info) -> Vec<String> {
        let open = self
            .addresses
            .iter()
            .filter(|address| address.ends_with(" without TLS"));
        let warn = |address: &String| {
            format!(
                "WARNING: API is accessible on {address}: access to it is equivalent to root access on the host"
            )
        };
        let unbounded = info.cgroup.as_ref().err().map(|why| {
            format!(
                "WARNING: microVMs are bounded by their size alone, not by control groups of the host: {why}"
            )
        });
        open.map(warn).chain(unbounded).collect()
    }
}
