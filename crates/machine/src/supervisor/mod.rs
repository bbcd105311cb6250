//! The program that owns a running helper VM (`hull-machine`).
//!
//! It starts the file server and QEMU, waits for the agent's word that hulld answers, and then forwards
//! connections from the API socket into the VM. It lives exactly as long as the VM: QEMU and the file
//! server are killed by the kernel when it dies, and it ends when one of them does. All three hold the
//! lock file, so whoever gets the lock knows that nothing of an earlier VM is left.

mod confine;
mod forward;
mod host_ports;
mod processes;
mod pulse;
mod start;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::config::MachineConfig;
use crate::dirs::MachineDirs;
use crate::host::{Accelerator, Virtiofsd};
use crate::host_settings::HostSettings;
use crate::link::LinkError;
use crate::protocol::{Event, Message, ProtocolError, Request};

pub use confine::{ConfineError, ConfineSpec};
use forward::Front;
use start::RunningVm;

/// How long the VM may take to end its processes and write its disk back before it is killed.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);
/// Lines of a log that go into an error message, and the bytes at its end that are looked at.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: usize = 4096;

/// All that the supervisor has to know; it reads it from its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Where everything is.
    pub dirs: MachineDirs,
    /// How large the VM is.
    pub config: MachineConfig,
    /// What runs it.
    pub accelerator: Accelerator,
    /// QEMU's program.
    pub qemu: PathBuf,
    /// The file server's program.
    pub virtiofsd: Virtiofsd,
    /// What of the host holds for hulld in the VM.
    pub settings: HostSettings,
    /// Run the file server as root of a user namespace of its own, because this user is not root.
    pub user_namespace: bool,
}

/// The helper VM could not be started or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A file, socket or program on the host could not be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Processes of an earlier VM do not go away.
    #[error("processes of an earlier helper VM still hold {lock}; `fuser -v {lock}` names them")]
    Occupied {
        /// The lock file.
        lock: PathBuf,
    },
    /// Another daemon serves the API already.
    #[error("another program listens on {socket}: stop it first, or choose another socket with --host")]
    SocketInUse {
        /// The API socket.
        socket: PathBuf,
    },
    /// A process of the VM ended by itself.
    #[error("{program} ended with {status}\n{log}")]
    Ended {
        /// Which.
        program: &'static str,
        /// How.
        status: ExitStatus,
        /// The last lines of its log, and of the console.
        log: String,
    },
    /// The agent reported that hulld cannot be brought up.
    #[error("{reason}")]
    Agent {
        /// The agent's words.
        reason: String,
    },
    /// The VM boots too slowly, or hangs.
    #[error("the helper VM was not ready within {seconds} s\n{log}")]
    TooSlow {
        /// How long it was given.
        seconds: u64,
        /// The last lines of its console.
        log: String,
    },
    /// The VM hangs.
    #[error("the helper VM gave no sign of life for {seconds} s and was killed\n{log}")]
    Silent {
        /// How long it was given.
        seconds: u64,
        /// The last lines of its console.
        log: String,
    },
    /// It was told to stop while it started.
    #[error("told to stop while the helper VM was starting")]
    Interrupted,
    /// The link into the VM ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The agent does not keep to the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Run the helper VM until it is told to stop or it fails. Progress, and whether it came up, go to standard
/// output as one [`Event`] a line.
///
/// Must run on the process's main thread: the kernel ties the death of QEMU to the thread that starts it.
pub async fn serve(spec: LaunchSpec) -> Result<(), SupervisorError> {
    let vm = match start::start(&spec, &mut announce).await {
        Ok(vm) => vm,
        Err(e) => {
            announce(&Event::Failed(e.to_string()));
            return Err(e);
        }
    };
    let front = match Front::open(&spec.dirs, vm.opener.clone()) {
        Ok(front) => front,
        Err(e) => {
            announce(&Event::Failed(e.to_string()));
            return Err(e);
        }
    };
    announce(&Event::Ready);
    release_stdout();
    let result = run(&spec, vm, &front).await;
    front.close();
    result
}

/// Forward until the VM ends, or shut it down when told to.
async fn run(spec: &LaunchSpec, mut vm: RunningVm, front: &Front) -> Result<(), SupervisorError> {
    let status = vm.status(spec);
    let mut terminate =
        signal(SignalKind::terminate()).map_err(file("handle signals of", Path::new("hull-machine")))?;
    let stop_reply = tokio::select! {
        reply = front.serve(&status) => Some(reply),
        _ = terminate.recv() => None,
        error = vm.ended(&spec.dirs) => return Err(error),
    };
    eprintln!("shutting the helper VM down");
    let ordered = vm.shut_down(SHUTDOWN_PATIENCE).await;
    if !ordered {
        eprintln!(
            "the helper VM did not shut down within {} s and was killed",
            SHUTDOWN_PATIENCE.as_secs()
        );
    }
    drop(vm);
    if let Some(mut reply) = stop_reply {
        // Whoever asked may have gone away; the VM is down either way.
        let _ = Message::Stopped.send(&mut reply).await;
    }
    Ok(())
}

impl RunningVm {
    /// Ask the agent to shut down and wait for QEMU to end; kill it after `patience`. Whether it ended by itself.
    async fn shut_down(&mut self, patience: Duration) -> bool {
        let ask = async {
            let mut stream = self.opener.open().await?;
            Message::Request(Request::Stop).send(&mut stream).await?;
            // Held open until QEMU is gone: a reset could overtake the request.
            let status = self.processes.qemu.wait().await;
            drop(stream);
            Ok::<_, SupervisorError>(status)
        };
        let ordered = matches!(timeout(patience, ask).await, Ok(Ok(Ok(_))));
        self.processes.kill().await;
        ordered
    }
}

/// One line for whoever started the supervisor. It may have gone away; the VM starts all the same.
fn announce(event: &Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

/// Let go of the pipe to whoever started the supervisor, so that their pipeline can end.
fn release_stdout() {
    if let Ok(null) = fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// What tells one build of the VM from another: its kernel, its root file system with hull's programs, and its supervisor.
pub(crate) fn image_id(dirs: &MachineDirs) -> String {
    [dirs.kernel(), dirs.initrd(), dirs.supervisor()]
        .map(|part| file_id(&part))
        .join(" ")
}

fn file_id(path: &Path) -> String {
    fs::metadata(path).map_or_else(
        |_| "none".to_owned(),
        |m| {
            format!(
                "{}-{}-{}-{}.{}",
                m.dev(),
                m.ino(),
                m.len(),
                m.mtime(),
                m.mtime_nsec()
            )
        },
    )
}

/// Make room for a new log. Why the last VM failed is often asked when the next one runs already.
pub(crate) fn keep_previous(log: &Path) -> io::Result<()> {
    match fs::rename(log, log.with_extension("previous.log")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The last lines of a log, headed by its path; says so when there are none.
pub(crate) fn log_tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let end = &text[text.len().saturating_sub(TAIL_BYTES)..];
    let end = String::from_utf8_lossy(end);
    let lines: Vec<&str> = end.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return format!("{} is empty", path.display());
    }
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
    format!("last lines of {}:\n  {last}", path.display())
}

fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> SupervisorError + use<> {
    let path = path.to_owned();
    move |source| SupervisorError::File {
        action,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_and_an_empty_log_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let log = tmp.path().join("qemu.log");
        assert!(log_tail(&log).ends_with("qemu.log is empty"));
        let text: String = (0..1000).map(|i| format!("line {i}\r\n\n")).collect();
        fs::write(&log, text).unwrap();
        let tail = log_tail(&log);
        assert!(tail.ends_with("line 999"), "{tail}");
        assert_eq!(tail.lines().count(), TAIL_LINES + 1);
    }

    #[test]
    fn the_log_of_the_vm_before_is_kept() {
        let tmp = tempfile::tempdir().unwrap();
        let log = tmp.path().join("qemu.log");
        keep_previous(&log).unwrap();
        for text in ["first", "second"] {
            keep_previous(&log).unwrap();
            fs::write(&log, text).unwrap();
        }
        let previous = tmp.path().join("qemu.previous.log");
        assert_eq!(fs::read_to_string(previous).unwrap(), "first");
    }

    #[test]
    fn another_build_of_the_image_has_another_id() {
        let tmp = tempfile::tempdir().unwrap();
        let dirs = MachineDirs::new(tmp.path(), tmp.path(), tmp.path(), Path::new("/s"));
        fs::create_dir(tmp.path().join("machine")).unwrap();
        let mut seen = vec![image_id(&dirs)];
        for part in [dirs.kernel(), dirs.initrd(), dirs.supervisor()] {
            for content in ["one", "three"] {
                fs::write(&part, content).unwrap();
                seen.push(image_id(&dirs));
            }
        }
        let different: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(different.len(), seen.len(), "{seen:?}");
    }
}
