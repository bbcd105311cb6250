//! The handle on the helper VM: what `hull` and `hull machine` call.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::config::{ConfigError, MachineConfig, MachineOptions};
use crate::dirs::MachineDirs;
use crate::host::{Accelerator, HostReport, Placement};
use crate::host_settings::HostSettings;
use crate::protocol::{Event, MachineStatus, Message, ProtocolError, Request};
use crate::supervisor::{LaunchSpec, image_id, keep_previous, log_tail};

/// Called with one line for each step that the user may want to see.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// How long a running VM may take to shut down: its processes get 5 s to end, then it writes its disk back.
const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// The helper VM could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A program that the helper VM needs is not installed.
    #[error("the helper VM needs {program}, which is not installed; {install}")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// How to get it.
        install: &'static str,
    },
    /// A part of hull's own installation is missing.
    #[error("the helper VM's {part} is missing: {path}; build it with `make build`, or install hull again")]
    Incomplete {
        /// What it is.
        part: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// A file, folder or program on the host could not be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The VM did not come up.
    #[error("the helper VM did not start: {reason}")]
    Start {
        /// What its supervisor said, with the last lines of the log that explains it.
        reason: String,
    },
    /// The VM is needed and not there.
    #[error("the helper VM is not running; `hull machine start` starts it")]
    NotRunning,
    /// The VM did not shut down in time.
    #[error("the helper VM did not stop within {} s; see {log}", STOP_PATIENCE.as_secs())]
    Stop {
        /// The supervisor's log.
        log: PathBuf,
    },
    /// The connection to the VM failed.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The supervisor or the agent refused.
    #[error("{0}")]
    Refused(String),
}

/// All that is known of the helper VM, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineReport {
    /// The running VM; `None` when it is stopped.
    pub running: Option<MachineStatus>,
    /// The running VM was started from another build of hull than the one installed now.
    pub outdated: bool,
    /// The data disk, when there is one.
    pub disk: Option<DiskUse>,
}

/// The data disk on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskUse {
    /// The image.
    pub path: PathBuf,
    /// What the VM may put on it, in bytes.
    pub size: u64,
    /// What it takes on the host, in bytes.
    pub used: u64,
}

/// What became of a helper VM that may be of an older build than the one installed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is not, or it does not run.
    NotNeeded,
    /// It was stopped and started.
    Restarted,
    /// Something goes on in it. Why, when this build was not postponed before.
    Postponed(Option<String>),
}

/// What became of a request to stop.
enum Stop {
    Stopped,
    NotRunning,
    Busy(String),
}

/// The helper VM of this user on this host.
#[derive(Clone, Debug)]
pub struct Machine {
    dirs: MachineDirs,
}

impl Machine {
    /// A handle; nothing is done yet.
    pub fn new(dirs: MachineDirs) -> Self {
        Machine { dirs }
    }

    /// Where it keeps its files.
    pub fn dirs(&self) -> &MachineDirs {
        &self.dirs
    }

    /// Keep these settings for all later starts and make the data disk.
    pub fn init(&self, options: MachineOptions, host: &HostReport) -> Result<MachineConfig, MachineError> {
        let config = options.resolve(host)?;
        config.ensure_disk(&self.dirs)?;
        options.store(&self.dirs)?;
        Ok(config)
    }

    /// Start the VM unless it runs. Returns once the Docker Engine API answers on the API socket.
    pub async fn ensure_running(
        &self,
        host: &HostReport,
        progress: Progress<'_>,
    ) -> Result<MachineStatus, MachineError> {
        if let Some(status) = self.request_status().await? {
            return Ok(status);
        }
        self.make_runtime_folder()?;
        let _one_at_a_time = lock(self.dirs.start_lock()).await?;
        // Somebody else may have started it while this call waited for its turn.
        if let Some(status) = self.request_status().await? {
            return Ok(status);
        }
        self.start(host, progress).await
    }

    /// Start the VM. The caller holds the start lock.
    async fn start(&self, host: &HostReport, progress: Progress<'_>) -> Result<MachineStatus, MachineError> {
        let spec = self.launch_spec(host)?;
        progress(&start_line(&spec, host));
        self.launch(&spec, progress).await?;
        self.request_status().await?.ok_or_else(|| MachineError::Start {
            reason: format!(
                "it ended right after its start\n{}",
                log_tail(&self.dirs.supervisor_log())
            ),
        })
    }

    /// Shut the VM down in order and wait until it is gone. `false` when it was not running.
    pub async fn stop(&self) -> Result<bool, MachineError> {
        match self.stop_with(Request::Stop).await? {
            Stop::Stopped => Ok(true),
            Stop::NotRunning => Ok(false),
            Stop::Busy(_) => Err(unexpected()),
        }
    }

    async fn stop_with(&self, request: Request) -> Result<Stop, MachineError> {
        let Some(mut control) = self.connect().await? else {
            return Ok(Stop::NotRunning);
        };
        let stopped = async {
            Message::Request(request).send(&mut control).await?;
            match Message::receive(&mut control).await? {
                Some(Message::Stopped) | None => {}
                Some(Message::Busy(reason)) => return Ok(Stop::Busy(reason)),
                Some(Message::Error(reason)) => return Err(MachineError::Refused(reason)),
                Some(_) => return Err(unexpected()),
            }
            // The lock is free once the supervisor, QEMU and the file server are all gone.
            lock(self.dirs.lock()).await.map(|_| Stop::Stopped)
        };
        match timeout(STOP_PATIENCE, stopped).await {
            Ok(result) => result,
            Err(_) => Err(MachineError::Stop {
                log: self.dirs.supervisor_log(),
            }),
        }
    }

    /// Restart a running VM that is of an older build than the one installed now, unless something goes on in it. Costs a few
    /// looks at files when it is not.
    pub async fn renew(
        &self,
        host: impl FnOnce() -> HostReport,
        progress: Progress<'_>,
    ) -> Result<Renewal, MachineError> {
        if !self.is_outdated() {
            return Ok(Renewal::NotNeeded);
        }
        let _one_at_a_time = lock(self.dirs.start_lock()).await?;
        // Somebody else may have done it while this call waited for its turn.
        if !self.is_outdated() {
            return Ok(Renewal::NotNeeded);
        }
        match self.stop_with(Request::StopIfIdle).await? {
            Stop::NotRunning => Ok(Renewal::NotNeeded),
            Stop::Busy(reason) => Ok(self.announce_once(reason)),
            Stop::Stopped => {
                progress(
                    "The helper VM is of an older build of hull and nothing runs in it: it is restarted",
                );
                self.start(&host(), progress).await?;
                Ok(Renewal::Restarted)
            }
        }
    }

    /// Whether the VM that runs, or the last one that did, was started from other files than those of now.
    fn is_outdated(&self) -> bool {
        fs::read_to_string(self.dirs.image()).is_ok_and(|started| started != image_id(&self.dirs))
    }

    /// A user is told once of each build, not at each command.
    fn announce_once(&self, reason: String) -> Renewal {
        let (marker, image) = (self.dirs.announced_image(), image_id(&self.dirs));
        if fs::read_to_string(&marker).is_ok_and(|announced| announced == image) {
            return Renewal::Postponed(None);
        }
        // Without the marker it is said again.
        let _ = fs::write(&marker, image);
        Renewal::Postponed(Some(reason))
    }

    /// What there is, running or not.
    pub async fn report(&self) -> Result<MachineReport, MachineError> {
        let running = self.request_status().await?;
        let outdated = running.as_ref().is_some_and(|r| image_id(&self.dirs) != r.image);
        let path = self.dirs.disk();
        let disk = match fs::metadata(&path) {
            Ok(meta) => Some(DiskUse {
                path,
                size: meta.len(),
                used: meta.blocks() * 512,
            }),
            Err(_) => None,
        };
        Ok(MachineReport {
            running,
            outdated,
            disk,
        })
    }

    /// Stop the VM and remove all it has, the data disk with every container and image on it included.
    /// `false` when there was nothing.
    pub async fn rm(&self) -> Result<bool, MachineError> {
        if !self.dirs.state.exists() && !self.dirs.runtime.exists() {
            return Ok(false);
        }
        self.make_runtime_folder()?;
        let _alone = lock(self.dirs.start_lock()).await?;
        self.stop().await?;
        for folder in [&self.dirs.state, &self.dirs.runtime] {
            match fs::remove_dir_all(folder) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(file("remove", folder)(e)),
            }
        }
        Ok(true)
    }

    /// A connection to the supervisor; `None` when it does not run.
    pub(crate) async fn connect(&self) -> Result<Option<UnixStream>, MachineError> {
        let path = self.dirs.control_socket();
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Some(stream)),
            // A socket that nobody listens on was left by a supervisor that was killed.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(file("connect to", &path)(e)),
        }
    }

    async fn request_status(&self) -> Result<Option<MachineStatus>, MachineError> {
        let Some(mut control) = self.connect().await? else {
            return Ok(None);
        };
        Message::Request(Request::Status).send(&mut control).await?;
        match Message::receive(&mut control).await? {
            Some(Message::Status(status)) => Ok(Some(status)),
            // It is just going down.
            None => Ok(None),
            Some(_) => Err(unexpected()),
        }
    }

    fn make_runtime_folder(&self) -> Result<(), MachineError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dirs.runtime)
            .map_err(file("create the folder", &self.dirs.runtime))
    }

    /// All that the supervisor has to know, once everything it needs is there.
    fn launch_spec(&self, host: &HostReport) -> Result<LaunchSpec, MachineError> {
        let qemu = host.qemu.clone().ok_or(MachineError::NotInstalled {
            program: "qemu-system-x86_64",
            install: "on Debian: `apt-get install qemu-system-x86`",
        })?;
        let virtiofsd = host.virtiofsd.clone().ok_or(MachineError::NotInstalled {
            program: "virtiofsd",
            install: "on Debian 12 it is part of qemu-system-common, on later ones: `apt-get install virtiofsd`",
        })?;
        let parts = [
            ("kernel", self.dirs.kernel()),
            ("root file system", self.dirs.initrd()),
            ("supervisor", self.dirs.supervisor()),
        ];
        for (part, path) in parts {
            if !path.is_file() {
                return Err(MachineError::Incomplete { part, path });
            }
        }
        let config = MachineOptions::load(&self.dirs)?.resolve(host)?;
        config.ensure_disk(&self.dirs)?;
        Ok(LaunchSpec {
            dirs: self.dirs.clone(),
            config,
            accelerator: host.accelerator(),
            qemu,
            virtiofsd,
            settings: HostSettings::gather(),
            user_namespace: !host.root,
        })
    }

    /// Start the supervisor and pass on what it says until the VM is up.
    async fn launch(&self, spec: &LaunchSpec, progress: Progress<'_>) -> Result<(), MachineError> {
        let program = self.dirs.supervisor();
        let log_path = self.dirs.supervisor_log();
        keep_previous(&log_path).map_err(file("set aside", &log_path))?;
        let log = File::create(&log_path).map_err(file("write", &log_path))?;
        let mut supervisor = Command::new(&program)
            .arg("serve")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(file("run", &program))?;
        let spoke = |source| file("speak to", &program)(source);
        let (stdin, stdout) = (supervisor.stdin.take(), supervisor.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(spoke(io::Error::other("no pipe to it")));
        };
        let text = serde_json::to_vec(spec).map_err(|e| spoke(e.into()))?;
        stdin.write_all(&text).await.map_err(spoke)?;
        drop(stdin);
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.map_err(spoke)? {
            match serde_json::from_str(&line) {
                Ok(Event::Progress(step)) => progress(&step),
                Ok(Event::Ready) => return Ok(()),
                Ok(Event::Failed(reason)) => return Err(MachineError::Start { reason }),
                Err(e) => {
                    return Err(MachineError::Start {
                        reason: format!("{}: {e}", program.display()),
                    });
                }
            }
        }
        Err(MachineError::Start {
            reason: format!(
                "{} ended without a word\n{}",
                program.display(),
                log_tail(&log_path)
            ),
        })
    }
}

fn start_line(spec: &LaunchSpec, host: &HostReport) -> String {
    let why = match host.placement() {
        Placement::Machine { why, .. } => why,
        Placement::Host => "asked for".to_owned(),
    };
    let on = match spec.accelerator {
        Accelerator::Kvm => "KVM, its microVMs on nested KVM",
        Accelerator::Tcg => "emulation (QEMU TCG), its microVMs on KVM over emulated AMD SVM",
    };
    format!(
        "Starting the helper VM ({} CPUs, {} MiB, on {on}): {why}",
        spec.config.cpus, spec.config.memory_mib
    )
}

fn unexpected() -> MachineError {
    MachineError::Refused(
        "the helper VM's supervisor gave an answer that does not fit the question".to_owned(),
    )
}

fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> MachineError + use<> {
    let path = path.to_owned();
    move |source| MachineError::File {
        action,
        path: path.clone(),
        source,
    }
}

/// Take an exclusive lock, waiting for whoever has it. It is held until the file is dropped.
async fn lock(path: PathBuf) -> Result<File, MachineError> {
    let failed = file("lock", &path);
    let locked = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked
        .await
        .map_err(io::Error::other)
        .and_then(|inner| inner)
        .map_err(failed)
}
