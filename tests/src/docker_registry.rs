//! Debian's `docker-registry`, on a port of its own on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Authority, Outcome};

/// How long a line of the log is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a line says of a request that was answered.
const COMPLETED: &str = "response completed";

/// The user of [`DockerRegistry::with_password`].
pub const USER: &str = "ann";
/// That user's password.
pub const PASSWORD: &str = "correct-horse-battery";

/// A registry that runs until it is dropped, and its data with it.
#[derive(Debug)]
pub struct DockerRegistry {
    folder: TempDir,
    spec: RegistrySpec,
    process: Child,
    log: Arc<Log>,
    /// `127.0.0.1:PORT`.
    pub host: String,
    markers: AtomicUsize,
}

/// Sections of its configuration, which `null` leaves out.
#[derive(Debug, Default)]
pub struct RegistrySpec {
    /// Who may use it: `auth`.
    pub auth: Value,
    /// What it shows of itself and wants to see: `http.tls`.
    pub tls: Value,
}

impl DockerRegistry {
    /// Without passwords and TLS.
    pub fn plain() -> Result<Self> {
        Self::start(tempfile::tempdir()?, RegistrySpec::default())
    }

    /// For [`USER`] and [`PASSWORD`] only.
    pub fn with_password() -> Result<Self> {
        let passwords = Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]).output();
        let passwords = Outcome::from(passwords.context("htpasswd (apache2-utils) cannot be run")?);
        ensure!(passwords.code == 0, "htpasswd: {passwords}");
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("htpasswd");
        std::fs::write(&file, passwords.stdout)?;
        let auth = json!({ "htpasswd": { "realm": "test", "path": file } });
        let spec = RegistrySpec {
            auth,
            tls: Value::Null,
        };
        Self::start(folder, spec)
    }

    /// With TLS and a certificate that `authority` vouches for; one that wants to see a certificate of `clients`, if there
    /// is such a CA.
    pub fn with_tls(authority: &Authority, clients: Option<&Authority>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [certificate, key, ca] =
            ["server.crt", "server.key", "clients.crt"].map(|name| folder.path().join(name));
        authority.issue_server(&certificate, &key)?;
        let mut tls = json!({ "certificate": certificate, "key": key });
        if let Some(clients) = clients {
            std::fs::write(&ca, clients.pem())?;
            tls["clientcas"] = json!([ca]);
        }
        let spec = RegistrySpec {
            auth: Value::Null,
            tls,
        };
        Self::start(folder, spec)
    }

    /// With its data in `folder`.
    pub fn start(folder: TempDir, spec: RegistrySpec) -> Result<Self> {
        let (process, log, host) = launch(folder.path(), &spec, "127.0.0.1:0")?;
        Ok(Self {
            folder,
            spec,
            process,
            log,
            host,
            markers: AtomicUsize::new(0),
        })
    }

    /// The name of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again, once it was killed, on the same port and with the same data.
    pub fn restart(&mut self) -> Result<()> {
        (self.process, self.log, self.host) = launch(self.folder.path(), &self.spec, &self.host)?;
        Ok(())
    }

    /// The file in which it keeps a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        let blobs = data(self.folder.path()).join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// The first line of its log, since it was last started, that has all of these words; waits until it is there.
    pub fn wait_for_log(&self, words: &[&str]) -> Result<String> {
        self.log.wait_for(words)
    }

    /// How many requests its log tells of, up to now, whose lines have all of these words. For one without TLS.
    pub fn requests(&self, words: &[&str]) -> Result<usize> {
        // What was logged before the line of a request of our own is there when that line is.
        let marker = format!("marker-{}", self.markers.fetch_add(1, Ordering::Relaxed));
        let mut stream = TcpStream::connect(&self.host)?;
        write!(
            stream,
            "GET /v2/{marker}/tags/list HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.host
        )?;
        stream.read_to_end(&mut Vec::new())?;
        self.log.wait_for(&[&marker, COMPLETED])?;
        let said = self.log.lock();
        let lines = said.lines.iter();
        Ok(lines
            .filter(|line| has(line, words) && has(line, &[COMPLETED]))
            .count())
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process says.
#[derive(Debug, Default)]
struct Log {
    said: Mutex<Said>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    /// How many outputs there are from which more can come.
    open: usize,
}

fn has(line: &str, words: &[&str]) -> bool {
    words.iter().all(|word| line.contains(word))
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, words: &[&str]) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.lock();
        loop {
            if let Some(line) = said.lines.iter().find(|line| has(line, words)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || said.open == 0 {
                let lines = said.lines.join("\n");
                bail!("docker-registry never said {words:?}; it said:\n{lines}");
            }
            let waited = self.grown.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes in what comes, until the process ends.
    fn follow(self: &Arc<Self>, output: impl Read + Send + 'static) {
        self.lock().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                log.lock().lines.push(line);
                log.grown.notify_all();
            }
            log.lock().open -= 1;
            log.grown.notify_all();
        });
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Starts it and waits until it listens; its log and its address, too.
fn launch(folder: &Path, spec: &RegistrySpec, address: &str) -> Result<(Child, Arc<Log>, String)> {
    let mut config = json!({
        "version": 0.1,
        "log": { "level": "info" },
        "storage": { "filesystem": { "rootdirectory": data(folder) }, "delete": { "enabled": true } },
        "http": { "addr": address },
    });
    if !spec.auth.is_null() {
        config["auth"] = spec.auth.clone();
    }
    if !spec.tls.is_null() {
        config["http"]["tls"] = spec.tls.clone();
    }
    // Every JSON document is one in YAML.
    let file = folder.join("config.yml");
    std::fs::write(&file, config.to_string())?;
    let mut process = Command::new("docker-registry")
        .arg("serve")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("docker-registry cannot be run; Debian has it in the package docker-registry")?;
    let log = Arc::new(Log::default());
    log.follow(process.stdout.take().context("no stdout")?);
    log.follow(process.stderr.take().context("no stderr")?);
    let host = log.wait_for(&["listening on "]).and_then(|line| {
        let (_, rest) = line.split_once("listening on ").context("no address")?;
        let host = rest.split(['"', ',']).next().context("no address")?;
        Ok(host.trim().to_owned())
    });
    match host {
        Ok(host) => Ok((process, log, host)),
        Err(error) => {
            let _ = process.kill();
            let _ = process.wait();
            Err(error)
        }
    }
}
