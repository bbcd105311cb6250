//! Debian's `docker-registry`, started on a port of its own on loopback.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);

/// A registry that runs until it is dropped.
pub(crate) struct DockerRegistry {
    process: Child,
    log: mpsc::Receiver<String>,
    folder: tempfile::TempDir,
    auth: String,
    tls: String,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
}

impl DockerRegistry {
    /// Without authentication and TLS.
    pub(crate) fn plain() -> Result<Self> {
        Self::start(tempfile::tempdir()?, "", "")
    }

    /// With a user `ann` whose password is `hunter2`.
    pub(crate) fn with_password() -> Result<Self> {
        let passwords = Command::new("htpasswd").args(["-Bbn", "ann", "hunter2"]).output();
        let passwords = passwords.context("htpasswd (apache2-utils) could not be run")?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("htpasswd");
        std::fs::write(&file, passwords.stdout)?;
        let auth = format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            file.display()
        );
        Self::start(folder, &auth, "")
    }

    /// In `folder`, with an `auth` section and the lines of an `http.tls` section.
    pub(crate) fn start(folder: tempfile::TempDir, auth: &str, tls: &str) -> Result<Self> {
        let (process, log, host) = launch(folder.path(), auth, tls, "127.0.0.1:0")?;
        Ok(Self {
            process,
            log,
            folder,
            auth: auth.into(),
            tls: tls.into(),
            host,
        })
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again, on the same port, with the same data.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let host = self.host.clone();
        (self.process, self.log, self.host) = launch(self.folder.path(), &self.auth, &self.tls, &host)?;
        Ok(())
    }

    /// Waits for a line of its log.
    pub(crate) fn wait_for_log(&self, matches: impl Fn(&str) -> bool) -> Result<String> {
        wait_for(&self.log, matches)
    }

    /// The file in which it keeps a blob.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

type Launched = (Child, mpsc::Receiver<String>, String);

fn launch(folder: &Path, auth: &str, tls: &str, address: &str) -> Result<Launched> {
    let config = folder.join("config.yml");
    let data = folder.join("data");
    let tls = if tls.is_empty() {
        String::new()
    } else {
        format!("  tls:\n{tls}")
    };
    let text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
         {auth}http:\n  addr: {address}\n{tls}",
        data.display()
    );
    std::fs::write(&config, text)?;
    let mut process = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("docker-registry could not be run; Debian has it in the package docker-registry")?;
    let (sender, log) = mpsc::channel();
    let stdout = process.stdout.take().context("no stdout")?;
    let stderr = process.stderr.take().context("no stderr")?;
    forward(stdout, sender.clone());
    forward(stderr, sender);
    let line = wait_for(&log, |line| line.contains("listening on "))?;
    let host = line
        .split("listening on ")
        .nth(1)
        .and_then(|rest| rest.split(['"', ',']).next());
    let host = host.context("no address")?.trim().to_string();
    Ok((process, log, host))
}

fn forward(output: impl std::io::Read + Send + 'static, sender: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
}

fn wait_for(log: &mpsc::Receiver<String>, matches: impl Fn(&str) -> bool) -> Result<String> {
    let end = Instant::now() + START;
    let mut seen = String::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = log
            .recv_timeout(left)
            .with_context(|| format!("docker-registry did not say so; it said:\n{seen}"))?;
        if matches(&line) {
            return Ok(line);
        }
        seen += &line;
        seen.push('\n');
    }
}
