//! A `hulld` on this host, for all that images need: it may be killed, starved and measured, and no other test sees it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use system_tests::Outcome;
use tempfile::TempDir;

use crate::http::{self, Answer};

/// How long the store may take to remove what nobody needs.
const CLEANING: Duration = Duration::from_secs(10);

/// A daemon with folders of its own; both end with it.
pub(crate) struct HostDaemon {
    folder: TempDir,
    process: Child,
    /// The size of a file system in memory that holds the state, if it is not on the disk.
    memory: Option<u64>,
}

impl HostDaemon {
    /// One with an empty store.
    pub(crate) fn start() -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, None)
    }

    /// One whose whole state must fit into `size` bytes. No other process sees that file system.
    pub(crate) fn start_in_memory(size: u64) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, Some(size))
    }

    fn start_in(folder: TempDir, memory: Option<u64>) -> Result<Self> {
        for name in ["root", "lib", "config"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        let process = launch(folder.path(), memory)?;
        Ok(Self {
            folder,
            process,
            memory,
        })
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again on the same state, once it was killed.
    pub(crate) fn restart(&mut self) -> Result<()> {
        ensure!(self.memory.is_none(), "the state went with the daemon");
        self.process = launch(self.folder.path(), None)?;
        Ok(())
    }

    /// The folder of its state, also where that is a file system of its own.
    pub(crate) fn root(&self) -> PathBuf {
        let seen = PathBuf::from(format!("/proc/{}/root", self.process.id()));
        let root = self.folder.path().join("root");
        seen.join(root.strip_prefix("/").expect("temporary folders are absolute"))
    }

    /// `hull ARGS...`, to be run.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Command> {
        let mut command = Command::new(program("hull")?);
        command
            .env("HULL_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.folder.path().join("config"))
            .args(args)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// What `hull ARGS...` did.
    pub(crate) fn hull<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Outcome> {
        Ok(self.command(args)?.output()?.into())
    }

    /// A request, on its way: the answer is not waited for.
    pub(crate) fn send(&self, method: &str, target: &str) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(self.socket())?;
        // `e30=` is `{}`: credentials of nobody, which a push must name.
        http::send(&mut stream, method, target, &[("X-Registry-Auth", "e30=")], b"")?;
        Ok(stream)
    }

    /// The answer to a request.
    pub(crate) fn request(&self, method: &str, target: &str) -> Result<Answer> {
        http::receive(&mut self.send(method, target)?)
    }

    /// The most memory that it ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmHWM")?;
        Ok(kilobytes.parse::<u64>()? << 10)
    }

    /// Waits until no file of any image is left. A pull that fails has said so before its last thread has ended, and what
    /// a daemon finds when it starts is collected while it serves.
    pub(crate) fn wait_until_empty(&self) -> Result<()> {
        let end = Instant::now() + CLEANING;
        loop {
            let mut files = Vec::new();
            for folder in ["blobs/sha256", "layers", "tmp"] {
                files.extend(names(&self.root(), folder)?);
            }
            if files.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < end, "files of no image are left: {files:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Files of transfers that are not complete.
    pub(crate) fn unfinished_files(&self) -> Result<Vec<String>> {
        names(&self.root(), "tmp")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/hull.sock")
    }
}

impl Drop for HostDaemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a daemon and waits until it listens.
fn launch(folder: &Path, memory: Option<u64>) -> Result<Child> {
    let mut command = match memory {
        None => Command::new(program("hulld")?),
        Some(size) => {
            let mut command = Command::new("unshare");
            let script = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
            command.args(["--map-root-user", "--mount", "sh", "-ec", &script]);
            command.arg(folder.join("root")).arg(program("hulld")?);
            command
        }
    };
    for name in ["root", "run", "lib"] {
        let option = if name == "run" { "runtime" } else { name };
        command.arg(format!("--{option}")).arg(folder.join(name));
    }
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let mut said = String::new();
    BufReader::new(process.stdout.take().context("no stdout")?).read_line(&mut said)?;
    if !said.starts_with("listening on ") {
        let _ = process.kill();
        process.wait()?;
        let log = fs::read_to_string(folder.join("log"))?;
        anyhow::bail!("hulld did not start; it said {said:?}, and in its log:\n{log}");
    }
    Ok(process)
}

/// A built program: cargo puts them into the folder above that of its tests.
fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .parent()
        .and_then(Path::parent)
        .context("no folder of programs")?;
    let program = folder.join(name);
    ensure!(
        program.exists(),
        "{} is not there: run `make build` first",
        program.display()
    );
    Ok(program)
}

fn names(root: &Path, folder: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root.join(folder)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names: std::io::Result<Vec<String>> = entries
        .map(|entry| Ok(format!("{folder}/{}", entry?.file_name().to_string_lossy())))
        .collect();
    Ok(names?)
}
