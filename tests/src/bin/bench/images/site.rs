//! A registry and daemons for the measurements, and the folder in which they keep what they have.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use system_tests::Hull;
use tempfile::TempDir;

use crate::peers::run;

/// hull's programs, and folders that go at the end.
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

/// Debian's docker-registry on a loopback port of its own.
pub(crate) struct Registry {
    server: Child,
    host: String,
}

impl Registry {
    pub(crate) fn start(site: &Site) -> Result<Registry> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let host = format!("127.0.0.1:{port}");
        let folder = site.folder().join("registry");
        let config = serde_json::json!({
            "version": 0.1,
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": folder } },
            "http": { "addr": host },
        });
        // Every JSON document is one in YAML.
        let file = site.folder().join("registry.yml");
        fs::write(&file, config.to_string())?;
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry cannot be executed")?;
        let registry = Registry { server, host };
        let deadline = Instant::now() + Duration::from_secs(10);
        // It does not say when it listens.
        while std::net::TcpStream::connect(&registry.host).is_err() {
            ensure!(
                Instant::now() < deadline,
                "docker-registry does not listen on {}",
                registry.host
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// An image's full name.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Puts an image from an OCI archive or layout there, with skopeo.
    pub(crate) fn fill(&self, source: &Path, image: &str) -> Result<()> {
        let kind = if source.is_dir() { "oci" } else { "oci-archive" };
        let source = format!("{kind}:{}", source.display());
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--dest-tls-verify=false", &source]);
        run(command.arg(format!("docker://{}", self.name(image)))).map(drop)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that has gone needs no end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A `hulld` that was just started, with a store of its own.
pub(crate) struct Daemon {
    process: Child,
    hull: PathBuf,
    root: PathBuf,
    socket: PathBuf,
    /// Socket paths are at most 107 bytes long: not below a checkout of any depth.
    _runtime: TempDir,
}

impl Daemon {
    /// Starts it with this folder for what it keeps.
    pub(crate) fn start(site: &Site, root: &Path) -> Result<Daemon> {
        let runtime = tempfile::Builder::new().prefix("hull-bench-").tempdir()?;
        let mut command = Command::new(site.prefix.join("lib/hull/hulld"));
        command
            .arg("--root")
            .arg(root)
            .arg("--runtime")
            .arg(runtime.path());
        let mut process = command
            .args(["--log-level", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .context("hulld cannot be executed")?;
        let output = process.stdout.take().context("hulld has a standard output")?;
        let daemon = Daemon {
            process,
            hull: site.prefix.join("bin/hull"),
            root: root.to_owned(),
            socket: runtime.path().join("hull.sock"),
            _runtime: runtime,
        };
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said)?;
        ensure!(said.starts_with("listening"), "hulld does not listen: {said}");
        Ok(daemon)
    }

    /// `hull ARGS...` of this daemon, which has to succeed.
    pub(crate) fn hull(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.hull);
        command.env("HULL_HOST", format!("unix://{}", self.socket.display()));
        run(command.args(args))
    }

    /// Removes an image, and sees that none of its blobs stays.
    pub(crate) fn forget(&self, image: &str) -> Result<()> {
        self.hull(&["rmi", "--force", image])?;
        let left =
            fs::read_dir(self.root.join("blobs/sha256"))?.filter_map(|entry| entry.ok()?.metadata().ok());
        let left: u64 = left.map(|blob| blob.len()).sum();
        // The embedded busybox is there.
        ensure!(
            left < 8 << 20,
            "{left} bytes of blobs are left after {image} was removed"
        );
        Ok(())
    }

    /// The most memory that it had at once, in MiB (`proc_pid_status(5)`, VmHWM).
    pub(crate) fn peak(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: f64 = kib.context("the process has no VmHWM")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has no containers, and its store is thrown away.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
