//! hulld in the helper VM: started, and started again when it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::kvm_hold::KvmHold;
use super::{API_SOCKET, HOST_PORTS_SOCKET, HOST_ROOT, LIB, RUNTIME, STATE, host_files};
use crate::host_settings::HostSettings;
use crate::network::{HOST_V4, HOST_V6};
use crate::supervisor::log_tail;

/// On the data disk, so that it can be read after a crash of the VM.
const LOG: &str = "/var/lib/hull/hulld.log";
/// A longer log starts anew with the VM.
const LOG_LIMIT: u64 = 8 << 20;
/// A hulld that lived less long is started again only after a pause.
const SHORT_LIFE: Duration = Duration::from_secs(5);
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How long a client waits for a hulld that is just being started again.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// hulld does not come up.
#[derive(Debug, thiserror::Error)]
pub(super) enum DaemonError {
    /// Its log cannot be written.
    #[error("cannot write hulld's log {LOG} in the helper VM: {0}")]
    Log(io::Error),
    /// The virtual machine that keeps KVM on cannot be made.
    #[error("cannot run {LIB}/hull-vmm in the helper VM: {0}")]
    Hold(io::Error),
    /// It cannot be run.
    #[error("cannot run {LIB}/hulld in the helper VM: {0}")]
    Spawn(io::Error),
    /// It ended before it answered.
    #[error("hulld ended in the helper VM with {status}\n{log}")]
    Ended {
        /// How.
        status: std::process::ExitStatus,
        /// What it had to say.
        log: String,
    },
}

/// hulld, whether it is up or about to be.
#[derive(Clone)]
pub(super) struct Daemon {
    up: watch::Receiver<bool>,
    kvm: Arc<KvmHold>,
}

impl Daemon {
    /// Start hulld and wait until it listens; from then on it is kept running.
    pub(super) async fn start(settings: HostSettings) -> Result<Self, DaemonError> {
        let kvm = KvmHold::take().map_err(DaemonError::Hold)?;
        let mut child = spawn(&settings)?;
        if !listens(&mut child).await {
            let status = child.wait().await.map_err(DaemonError::Spawn)?;
            return Err(DaemonError::Ended {
                status,
                log: log_tail(Path::new(LOG)),
            });
        }
        let (set_up, up) = watch::channel(true);
        tokio::spawn(keep_running(child, settings, set_up));
        Ok(Daemon {
            up,
            kvm: Arc::new(kvm),
        })
    }

    /// How many microVMs there are, running or paused.
    pub(super) fn micro_vms(&self) -> io::Result<u32> {
        let program = Path::new(LIB).join("hull-vmm");
        let mut count = 0;
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let pid: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // A process that ends meanwhile, or a thread of the kernel, has no program.
            let runs =
                pid.is_some() && fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program);
            if runs && pid != self.kvm.pid() {
                count += 1;
            }
        }
        Ok(count)
    }

    /// A connection to hulld; waits a while when it is just being started again.
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        let mut up = self.up.clone();
        loop {
            // Noted before the attempt, so that a change during it is not missed.
            up.mark_unchanged();
            match UnixStream::connect(API_SOCKET).await {
                Ok(stream) => return Ok(stream),
                Err(e) => match timeout(RECONNECT_PATIENCE, up.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return Err(e),
                },
            }
        }
    }
}

fn spawn(settings: &HostSettings) -> Result<Child, DaemonError> {
    let log = open_log().map_err(DaemonError::Log)?;
    let host = Path::new(HOST_ROOT);
    Command::new(Path::new(LIB).join("hulld"))
        .args([
            "--root",
            STATE,
            "--runtime",
            RUNTIME,
            "--lib",
            LIB,
            "--host-root",
            HOST_ROOT,
        ])
        .args(["--host", &format!("unix://{API_SOCKET}")])
        .args(["--host-ports", HOST_PORTS_SOCKET])
        // A connection to the gateway is one to the host's loopback: for hulld, not for containers.
        .args(["--forbid", &format!("{HOST_V4}/32")])
        .args(["--forbid", &format!("{HOST_V6}/128")])
        .args(
            settings
                .certs_dirs_below(host)
                .flat_map(|folder| ["--certs-dir".into(), folder.into_os_string()]),
        )
        .envs(settings.environment_below(host, |path| host_files::resolve(host, path)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(DaemonError::Spawn)
}

fn open_log() -> io::Result<File> {
    let log = OpenOptions::new().append(true).create(true).open(LOG)?;
    if log.metadata()?.len() > LOG_LIMIT {
        log.set_len(0)?;
    }
    Ok(log)
}

/// hulld says on its standard output when it serves. `false` when it ended, or closed that, before.
async fn listens(child: &mut Child) -> bool {
    let Some(stdout) = child.stdout.take() else {
        return false;
    };
    let mut lines = BufReader::new(stdout).lines();
    matches!(lines.next_line().await, Ok(Some(_)))
}

async fn keep_running(mut child: Child, settings: HostSettings, up: watch::Sender<bool>) {
    loop {
        let started = Instant::now();
        let status = child.wait().await;
        up.send_replace(false);
        eprintln!("machine-agent: hulld ended ({status:?}) and is started again");
        if started.elapsed() < SHORT_LIFE {
            tokio::time::sleep(RESTART_PAUSE).await;
        }
        child = match spawn(&settings) {
            Ok(child) => child,
            Err(e) => {
                eprintln!("machine-agent: {e}");
                return;
            }
        };
        if listens(&mut child).await {
            up.send_replace(true);
        }
    }
}
