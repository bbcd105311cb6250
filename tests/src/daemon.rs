//! A `hulld` on this host, for all that needs no microVM: it may be killed, starved and measured, and no other test sees it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Outcome;

/// How a daemon is started.
#[derive(Debug, Default)]
pub struct DaemonSpec {
    /// The folder of its state, if it is not to go with the daemon.
    pub root: Option<PathBuf>,
    /// How many bytes its whole state must fit into, if it lies in a file system of its own, in memory. No other process
    /// sees that one.
    pub memory: Option<u64>,
    /// Whether its store has nothing, not even the embedded image.
    pub empty: bool,
    /// How many descriptors it may have open, if not as many as any process here.
    pub descriptors: Option<u32>,
    /// Further arguments.
    pub arguments: Vec<OsString>,
}

/// A daemon with folders of its own; both end with it.
#[derive(Debug)]
pub struct Daemon {
    prefix: PathBuf,
    folder: TempDir,
    spec: DaemonSpec,
    process: Child,
    addresses: Vec<String>,
}

impl Daemon {
    /// One with the embedded image.
    pub fn start() -> Result<Self> {
        Self::start_with(DaemonSpec::default())
    }

    /// One with an empty store.
    pub fn empty() -> Result<Self> {
        Self::start_with(DaemonSpec {
            empty: true,
            ..DaemonSpec::default()
        })
    }

    /// One that is started like this.
    pub fn start_with(spec: DaemonSpec) -> Result<Self> {
        let prefix = crate::prefix()?;
        let folder = tempfile::Builder::new().prefix("hulld-").tempdir()?;
        for name in ["root", "lib", "docker"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let (process, addresses) = launch(&prefix, folder.path(), &spec)?;
        Ok(Self {
            prefix,
            folder,
            spec,
            process,
            addresses,
        })
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again on the same state, once it was killed.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.spec.memory.is_none(), "the state went with the daemon");
        (self.process, self.addresses) = launch(&self.prefix, self.folder.path(), &self.spec)?;
        Ok(())
    }

    /// A file of the test's own. `certs.d` and `docker` are the folders of certificates and of the clients' configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of its state, also where that is a file system of its own.
    pub fn root(&self) -> PathBuf {
        let root = root(self.folder.path(), &self.spec);
        match self.spec.memory {
            None => root,
            Some(_) => {
                let seen = PathBuf::from(format!("/proc/{}/root", self.process.id()));
                seen.join(root.strip_prefix("/").expect("the folder's path is absolute"))
            }
        }
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(log(self.folder.path()))?)
    }

    /// The addresses that it says it listens on.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The API socket.
    pub fn socket(&self) -> PathBuf {
        self.file("run/hull.sock")
    }

    /// `hull ARGS...`, to be run.
    pub fn hull_command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.client(self.prefix.join("bin/hull"), "HULL_HOST", args)
    }

    /// What `hull ARGS...` did.
    pub fn hull<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        let output = self.hull_command(args).output();
        output.expect("hull can be executed").into()
    }

    /// What `docker ARGS...` did with the real docker CLI.
    pub fn docker<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        let output = self.client("docker", "DOCKER_HOST", args).output();
        output.expect("the docker CLI is installed").into()
    }

    fn client<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        host: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .env(host, format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.file("docker"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// The most memory that it ever had, in bytes (`proc_pid_status(5)`, VmHWM).
    pub fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("the process has no VmHWM")?.parse::<u64>()? << 10)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }

    /// Tells it to read its configuration and its certificates again.
    pub fn hang_up(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::HUP)?)
    }

    /// The store is whole.
    #[track_caller]
    pub fn check(&self) {
        let report = self.hull(["system", "check"]).ok();
        assert!(report.contains("No damage was found."), "{report}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn root(folder: &Path, spec: &DaemonSpec) -> PathBuf {
    spec.root.clone().unwrap_or_else(|| folder.join("root"))
}

fn log(folder: &Path) -> PathBuf {
    folder.join("hulld.log")
}

/// Starts it and waits until it listens; also the addresses.
fn launch(prefix: &Path, folder: &Path, spec: &DaemonSpec) -> Result<(Child, Vec<String>)> {
    let programs = prefix.join("lib/hull");
    let (program, root) = (programs.join("hulld"), root(folder, spec));
    let mut command = match (spec.memory, spec.descriptors) {
        (None, None) => Command::new(program),
        (None, Some(limit)) => {
            let mut command = Command::new("sh");
            let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
            command.args(["-ec", &script]).arg(program);
            command
        }
        (Some(size), _) => {
            let mut command = Command::new("unshare");
            let script = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
            command.args(["--map-root-user", "--mount", "sh", "-ec", &script]);
            command.arg(&root).arg(program);
            command
        }
    };
    command.arg("--root").arg(root);
    command.arg("--runtime").arg(folder.join("run"));
    // The embedded image lies beside the programs.
    let lib = if spec.empty { folder.join("lib") } else { programs };
    command.arg("--lib").arg(lib);
    command.arg("--certs-dir").arg(folder.join("certs.d"));
    let stderr = fs::File::options().create(true).append(true).open(log(folder))?;
    let mut process = command
        .args(&spec.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("{command:?} cannot be executed"))?;
    // It says all in one piece.
    let mut stdout = BufReader::new(process.stdout.take().context("no stdout")?);
    let said = String::from_utf8(stdout.fill_buf()?.to_vec())?;
    let addresses = said.lines().map(|line| line.strip_prefix("listening on "));
    match addresses.map(|address| address.map(String::from)).collect() {
        Some(addresses) if !said.is_empty() => Ok((process, addresses)),
        _ => {
            let _ = process.kill();
            let status = process.wait()?;
            let log = fs::read_to_string(log(folder))?;
            bail!("hulld did not start ({status}); it said {said:?}, and in its log:\n{log}");
        }
    }
}
