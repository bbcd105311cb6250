//! Starts `hulld` on this host, in the background. The one module that is for Linux alone.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock, inotify};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::StartError;
use crate::api::Directories;

/// First argument of this program when it only opens a session and becomes what follows. Setting
/// a session between fork and exec would take unsafe code; an exec more does not.
pub(crate) const SESSION_ARGUMENT: &str = "--as-session-leader";

/// A daemon that has nothing to recover listens within milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between `bind` and `listen` the socket is there and refuses, and nothing tells when that is
/// over. It lasts microseconds.
const BIND_TO_LISTEN: Duration = Duration::from_millis(5);

const LOG_TAIL_LINES: usize = 10;

/// Becomes a session's leader, out of reach of the terminal's signals, then the given program.
pub(crate) fn become_session_leader(mut command: impl Iterator<Item = OsString>) -> io::Result<Infallible> {
    let program = command
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program to become"))?;
    rustix::process::setsid()?;
    Err(Command::new(program).args(command).exec())
}

/// Starts it, unless somebody else does at the same time, and returns when it listens.
pub(super) fn start(directories: &Directories, lib: &Path) -> Result<(), StartError> {
    let program = lib.join("hulld");
    if !program.is_file() {
        return Err(StartError::NoDaemon { path: program });
    }
    let runtime = &directories.runtime;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(runtime)
        .map_err(failed("create the folder", runtime))?;
    let lock_path = runtime.join("hulld.start.lock");
    let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(io::Error::from)
        .map_err(failed("lock", &lock_path))?;
    if UnixStream::connect(directories.socket()).is_ok() {
        return Ok(());
    }
    let watch = watch(runtime).map_err(failed("watch", runtime))?;
    let log = runtime.join("hulld.log");
    eprintln!("hull: starting hulld (its log is {})", log.display());
    let child = spawn(&program, directories, lib, &log)?;
    wait_for_listener(child, &watch, &directories.socket(), log)
}

fn spawn(program: &Path, directories: &Directories, lib: &Path, log: &Path) -> Result<Child, StartError> {
    let output = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(failed("open", log))?;
    let error_output = output.try_clone().map_err(failed("open", log))?;
    let own = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
    let mut host = OsString::from("unix://");
    host.push(directories.socket());
    Command::new(own)
        .arg(SESSION_ARGUMENT)
        .arg(program)
        .arg("--root")
        .arg(&directories.state)
        .arg("--runtime")
        .arg(&directories.runtime)
        .arg("--host")
        .arg(host)
        .arg("--lib")
        .arg(lib)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(error_output)
        .spawn()
        .map_err(failed("run", program))
}

fn watch(folder: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(
        &watch,
        folder,
        inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO,
    )?;
    Ok(watch)
}

/// Tries the socket whenever a name appears beside it; ends early when the daemon does.
fn wait_for_listener(
    mut child: Child,
    watch: &OwnedFd,
    socket: &Path,
    log: PathBuf,
) -> Result<(), StartError> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed("find", &log)(io::ErrorKind::NotFound.into()))?;
    let process = pidfd_open(pid, PidfdFlags::empty())
        .map_err(io::Error::from)
        .map_err(failed("watch", socket))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let refused = match UnixStream::connect(socket) {
            Ok(_) => return Ok(()),
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        };
        if let Some(status) = child.try_wait().map_err(failed("wait for", &log))? {
            let tail = tail(&log);
            return Err(StartError::Ended { status, log, tail });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StartError::Silent {
                socket: socket.to_owned(),
                log,
                seconds: PATIENCE.as_secs(),
            });
        }
        let pause = if refused { left.min(BIND_TO_LISTEN) } else { left };
        let mut waited = [
            PollFd::new(watch, PollFlags::IN),
            PollFd::new(&process, PollFlags::IN),
        ];
        let timeout = Timespec::try_from(pause).ok();
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("watch", socket)(error.into())),
        }
        // What happened does not matter, only that something did.
        let mut events = [0; 4096];
        while rustix::io::read(watch, &mut events).is_ok_and(|count| count > 0) {}
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StartError + 'a {
    move |source| StartError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
