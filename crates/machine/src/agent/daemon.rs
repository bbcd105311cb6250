//! hulld in the helper VM: started, and started again when it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{API_SOCKET, HOST_ROOT, LIB, RUNTIME, STATE, port};
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
    /// A folder or its log cannot be made.
    #[error("cannot prepare hulld's folders in the helper VM: {0}")]
    Folders(io::Error),
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
    /// Its socket cannot be watched for.
    #[error("cannot wait for hulld's socket in the helper VM: {0}")]
    Socket(io::Error),
}

/// hulld, whether it is up or about to be.
#[derive(Clone)]
pub(super) struct Daemon {
    up: watch::Receiver<bool>,
}

impl Daemon {
    /// Start hulld and wait until it listens; from then on it is kept running.
    pub(super) async fn start() -> Result<Self, DaemonError> {
        let mut child = spawn()?;
        let log = || log_tail(Path::new(LOG));
        tokio::select! {
            listening = wait_until_it_listens() => listening.map_err(DaemonError::Socket)?,
            status = child.wait() => {
                return Err(DaemonError::Ended { status: status.map_err(DaemonError::Spawn)?, log: log() });
            }
        }
        let (set_up, up) = watch::channel(true);
        tokio::spawn(keep_running(child, set_up));
        Ok(Daemon { up })
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

fn spawn() -> Result<Child, DaemonError> {
    let log = prepare().map_err(DaemonError::Folders)?;
    let also_log = log.try_clone().map_err(DaemonError::Folders)?;
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
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(also_log)
        .spawn()
        .map_err(DaemonError::Spawn)
}

fn prepare() -> io::Result<File> {
    for folder in [STATE, RUNTIME] {
        fs::create_dir_all(folder)?;
    }
    // Left by a hulld that was killed; it must not be taken for the new one's.
    match fs::remove_file(API_SOCKET) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let log = OpenOptions::new().append(true).create(true).open(LOG)?;
    if log.metadata()?.len() > LOG_LIMIT {
        log.set_len(0)?;
    }
    Ok(log)
}

async fn keep_running(mut child: Child, up: watch::Sender<bool>) {
    loop {
        let started = Instant::now();
        let status = child.wait().await;
        up.send_replace(false);
        eprintln!("machine-agent: hulld ended ({status:?}) and is started again");
        if started.elapsed() < SHORT_LIFE {
            tokio::time::sleep(RESTART_PAUSE).await;
        }
        child = match spawn() {
            Ok(child) => child,
            Err(e) => {
                eprintln!("machine-agent: {e}");
                return;
            }
        };
        tokio::select! {
            _ = wait_until_it_listens() => { up.send_replace(true); }
            _ = child.wait() => {}
        }
    }
}

/// The socket's file appears with `bind`, a moment before `listen`.
async fn wait_until_it_listens() -> io::Result<()> {
    tokio::task::spawn_blocking(|| port::wait_for(Path::new(API_SOCKET)))
        .await
        .map_err(io::Error::other)??;
    loop {
        match UnixStream::connect(API_SOCKET).await {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => tokio::task::yield_now().await,
            Err(e) => return Err(e),
        }
    }
}
