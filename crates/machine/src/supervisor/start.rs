//! From nothing to a helper VM in which hulld answers, in order, each step undone when a later one fails.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode};
use rustix::io::FdFlags;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::confine::raise_file_limit;
use super::host_ports::HostPorts;
use super::processes::Processes;
use super::{LaunchSpec, SupervisorError, file, image_id, log_tail, pulse};
use crate::agent::PREAMBLE;
use crate::dirs::MachineDirs;
use crate::link::{LinkEnd, LinkError, LinkStream, Opener, link};
use crate::protocol::{Event, MachineStatus, Message, ProtocolError, Request};

/// How long an earlier VM's processes may take to be gone: they are dying already.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// How long the VM may take from QEMU's start to hulld's first answer, at the first try and at the second. Several times
/// what an emulated one takes on an idle host: a VM that hangs in its boot is seen before its user gives up.
const START_PATIENCE: [Duration; 2] = [Duration::from_secs(90), Duration::from_secs(180)];

/// How long a process may take to end after its side of the link has.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The link into a VM, what drives it, and the ports of the host that lead into it.
struct Link {
    opener: Opener,
    driver: JoinHandle<LinkError>,
    host_ports: HostPorts,
}

/// A helper VM that is up. Dropped, its processes are killed.
pub(super) struct RunningVm {
    pub(super) processes: Processes,
    pub(super) opener: Opener,
    link: JoinHandle<LinkError>,
    _host_ports: HostPorts,
    ready_at: Instant,
    image: String,
    _lock: File,
}

/// Bring the VM up; `announce` is told of each step.
pub(super) async fn start(
    spec: &LaunchSpec,
    announce: &mut impl FnMut(&Event),
) -> Result<RunningVm, SupervisorError> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    raise_file_limit();
    let lock = take_lock(&spec.dirs).await?;
    remove_stale_sockets(&spec.dirs)?;
    let image = image_id(&spec.dirs);
    let image_file = spec.dirs.image();
    fs::write(&image_file, &image).map_err(file("write", &image_file))?;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(file("handle signals of", Path::new("hull-machine")))?;
    let [first, second] = START_PATIENCE;
    let booted = match boot(spec, first, &mut terminate, announce).await {
        Err(e @ SupervisorError::TooSlow { .. }) => {
            eprintln!("{e}");
            announce(&Event::Progress(format!(
                "The helper VM was not ready within {} s: once more",
                first.as_secs()
            )));
            boot(spec, second, &mut terminate, announce).await
        }
        booted => booted,
    };
    let (processes, link) = booted?;
    Ok(RunningVm {
        processes,
        opener: link.opener,
        link: link.driver,
        _host_ports: link.host_ports,
        ready_at: Instant::now(),
        image,
        _lock: lock,
    })
}

/// Start the processes and wait until hulld answers. Nothing is left of them when it does not.
async fn boot(
    spec: &LaunchSpec,
    patience: Duration,
    terminate: &mut Signal,
    announce: &mut impl FnMut(&Event),
) -> Result<(Processes, Link), SupervisorError> {
    let (mut processes, channel) = Processes::spawn(spec)?;
    let up = tokio::select! {
        up = timeout(patience, connect(channel, spec, announce)) => up.unwrap_or_else(|_| {
            Err(SupervisorError::TooSlow { seconds: patience.as_secs(), log: log_tail(&spec.dirs.console_log()) })
        }),
        error = processes.ended(&spec.dirs) => Err(error),
        _ = terminate.recv() => Err(SupervisorError::Interrupted),
    };
    match up {
        Ok(link) => Ok((processes, link)),
        Err(e) => {
            let e = processes.explain(e, &spec.dirs).await;
            processes.kill().await;
            remove_socket(&spec.dirs.virtiofs_socket())?;
            Err(e)
        }
    }
}

impl RunningVm {
    /// What does not change while the VM runs, and a clock for the rest.
    pub(super) fn status(&self, spec: &LaunchSpec) -> impl Fn() -> MachineStatus + use<> {
        let ready_at = self.ready_at;
        let status = MachineStatus {
            accelerator: spec.accelerator,
            memory_mib: spec.config.memory_mib,
            cpus: spec.config.cpus,
            uptime_seconds: 0,
            pid: std::process::id(),
            qemu_pid: self.processes.qemu.id().unwrap_or_default(),
            api_socket: spec.dirs.api_socket.clone(),
            image: self.image.clone(),
        };
        move || MachineStatus {
            uptime_seconds: ready_at.elapsed().as_secs(),
            ..status.clone()
        }
    }

    /// Wait until the VM fails by itself, and say how.
    pub(super) async fn ended(&mut self, dirs: &MachineDirs) -> SupervisorError {
        tokio::select! {
            error = self.processes.ended(dirs) => error,
            error = &mut self.link => {
                self.processes.explain(error.unwrap_or(LinkError::Closed).into(), dirs).await
            }
            () = pulse::stops(&self.opener, pulse::EVERY, pulse::PATIENCE) => SupervisorError::Silent {
                seconds: pulse::PATIENCE.as_secs(),
                log: log_tail(&dirs.console_log()),
            },
        }
    }
}

impl Processes {
    /// Wait until the file server ends, unless it does so because QEMU has.
    async fn virtiofsd_fails(virtiofsd: &mut Child) -> io::Result<ExitStatus> {
        let status = virtiofsd.wait().await;
        if matches!(status, Ok(status) if status.success()) {
            tokio::time::sleep(LAST_WORDS).await;
        }
        status
    }

    /// A link that broke is seen before the end of the process that broke it, which explains more.
    async fn explain(&mut self, error: SupervisorError, dirs: &MachineDirs) -> SupervisorError {
        match error {
            SupervisorError::Link(_) | SupervisorError::Protocol(ProtocolError::Io(_)) => {
                timeout(2 * LAST_WORDS, self.ended(dirs)).await.unwrap_or(error)
            }
            error => error,
        }
    }

    /// Wait until one of the two processes ends, and say which, how and what it had to say.
    async fn ended(&mut self, dirs: &MachineDirs) -> SupervisorError {
        let (program, status, logs) = tokio::select! {
            status = self.qemu.wait() => ("QEMU", status, [dirs.qemu_log(), dirs.console_log()]),
            status = Self::virtiofsd_fails(&mut self.virtiofsd) => ("virtiofsd", status, [dirs.virtiofsd_log(), dirs.qemu_log()]),
        };
        match status {
            Ok(status) => SupervisorError::Ended {
                program,
                status,
                log: logs.each_ref().map(|log| log_tail(log)).join("\n"),
            },
            Err(source) => file("wait for", Path::new(program))(source),
        }
    }
}

/// Take the lock that an earlier supervisor and its two children hold until the last of them is gone. The
/// descriptor is inherited by this supervisor's children for the same reason.
async fn take_lock(dirs: &MachineDirs) -> Result<File, SupervisorError> {
    let path = dirs.lock();
    let failed = file("lock", &path);
    let to_open = path.clone();
    let locking = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&to_open)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
        Ok(file)
    });
    match timeout(LOCK_PATIENCE, locking).await {
        Ok(locked) => locked
            .map_err(io::Error::other)
            .and_then(|inner| inner)
            .map_err(failed),
        Err(_) => Err(SupervisorError::Occupied { lock: path }),
    }
}

/// With the lock held, sockets in the machine's own folder are leftovers. The API socket is one only when
/// nobody answers on it.
fn remove_stale_sockets(dirs: &MachineDirs) -> Result<(), SupervisorError> {
    remove_socket(&dirs.control_socket())?;
    remove_socket(&dirs.virtiofs_socket())?;
    if BlockingUnixStream::connect(&dirs.api_socket).is_ok() {
        return Err(SupervisorError::SocketInUse {
            socket: dirs.api_socket.clone(),
        });
    }
    remove_socket(&dirs.api_socket)
}

fn remove_socket(path: &Path) -> Result<(), SupervisorError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file("remove the socket", path)(e)),
        _ => Ok(()),
    }
}

/// Set the link up once the agent has sent its preamble, and wait for its word that hulld answers.
async fn connect(
    mut channel: UnixStream,
    spec: &LaunchSpec,
    announce: &mut impl FnMut(&Event),
) -> Result<Link, SupervisorError> {
    let mut preamble = [0; PREAMBLE.len()];
    channel
        .read_exact(&mut preamble)
        .await
        .map_err(ProtocolError::Io)?;
    if preamble != PREAMBLE {
        return Err(SupervisorError::Agent {
            reason: "the helper VM's image is of another version of hull".to_owned(),
        });
    }
    let (opener, accepted, driver) = link(channel, LinkEnd::Host);
    let driver = tokio::spawn(driver);
    // Before hulld is up: it may want ports before it answers.
    let host_ports = HostPorts::serve(opener.clone());
    let mut settings = opener.open().await?;
    Message::Request(Request::Configure(spec.settings.clone()))
        .send(&mut settings)
        .await?;
    await_ready(accepted, announce).await?;
    // Not sooner: a reset could overtake what was sent.
    drop(settings);
    Ok(Link {
        opener,
        driver,
        host_ports,
    })
}

/// The first stream that the agent opens carries its events.
async fn await_ready(
    mut accepted: mpsc::Receiver<LinkStream>,
    announce: &mut impl FnMut(&Event),
) -> Result<(), SupervisorError> {
    let mut events = accepted.recv().await.ok_or(LinkError::Closed)?;
    loop {
        match Message::receive(&mut events).await? {
            Some(Message::Event(Event::Ready)) => return Ok(()),
            Some(Message::Event(Event::Failed(reason))) => return Err(SupervisorError::Agent { reason }),
            Some(Message::Event(step)) => announce(&step),
            Some(_) => {}
            None => return Err(LinkError::Closed.into()),
        }
    }
}
