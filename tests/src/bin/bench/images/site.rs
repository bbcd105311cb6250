//! A registry and daemons for the measurements, and the folder in which they keep what they have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use system_tests::{Daemon, DaemonSpec, DockerRegistry, Hull, RegistrySpec};
use tempfile::TempDir;

use crate::peers::run;

/// Where hull was built, and folders that go at the end.
pub(crate) struct Site {
    prefix: PathBuf,
    folder: TempDir,
    memory: TempDir,
}

impl Site {
    pub(crate) fn new(hull: &Hull) -> Result<Site> {
        let prefix = hull.prefix().to_owned();
        let folder = tempfile::Builder::new()
            .prefix("bench-images-")
            .tempdir_in(&prefix)?;
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        Ok(Site {
            prefix,
            folder,
            memory,
        })
    }

    /// A folder on the disk that `make` builds on.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A folder in memory, where the system has one.
    pub(crate) fn memory(&self) -> &Path {
        self.memory.path()
    }

    /// The archive with the Debian image.
    pub(crate) fn debian(&self) -> Result<PathBuf> {
        let archive = self.prefix.join("debian-bookworm.oci.tar");
        ensure!(
            archive.exists(),
            "{} is missing: 'make debian-image' builds it",
            archive.display()
        );
        Ok(archive)
    }
}

/// Debian's docker-registry, with what it keeps on the disk that `make` builds on.
pub(crate) fn registry(site: &Site) -> Result<DockerRegistry> {
    DockerRegistry::start(tempfile::tempdir_in(site.folder())?, RegistrySpec::default())
}

/// Puts an image from an OCI archive or layout there, with skopeo.
pub(crate) fn fill(registry: &DockerRegistry, source: &Path, image: &str) -> Result<()> {
    let kind = if source.is_dir() { "oci" } else { "oci-archive" };
    let source = format!("{kind}:{}", source.display());
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--dest-tls-verify=false", &source]);
    run(command.arg(format!("docker://{}", registry.image(image)))).map(drop)
}

/// A `hulld` that was just started, with a store of its own in this folder.
pub(crate) fn daemon(root: PathBuf) -> Result<Daemon> {
    Daemon::start_with(DaemonSpec {
        root: Some(root),
        arguments: ["--log-level", "warn"].map(Into::into).into(),
        ..DaemonSpec::default()
    })
}

/// `hull ARGS...` of a daemon, which has to succeed.
pub(crate) fn hull(daemon: &Daemon, args: &[&str]) -> Result<Output> {
    run(&mut daemon.hull_command(args))
}

/// Removes an image, and sees that none of its blobs stays.
pub(crate) fn forget(daemon: &Daemon, image: &str) -> Result<()> {
    hull(daemon, &["rmi", "--force", image])?;
    let left =
        fs::read_dir(daemon.root().join("blobs/sha256"))?.filter_map(|entry| entry.ok()?.metadata().ok());
    let left: u64 = left.map(|blob| blob.len()).sum();
    // The embedded busybox is there.
    ensure!(
        left < 8 << 20,
        "{left} bytes of blobs are left after {image} was removed"
    );
    Ok(())
}
