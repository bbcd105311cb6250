//! Starts `hulld` on this host, in the background.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::StartError;
use crate::api::Directories;
use crate::failure::complain;

/// First argument of this program when it only opens a session and becomes what follows. Setting
/// a session between fork and exec would take unsafe code; an exec more does not.
pub(crate) const SESSION_ARGUMENT: &str = "--as-session-leader";

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
    // The system's socket is for its group too; it has a mode of its own.
    let mode = if rustix::process::geteuid().is_root() {
        0o755
    } else {
        0o700
    };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
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
    let log = runtime.join("hulld.log");
    complain(format_args!(
        "hull: starting hulld (its log is {})",
        log.display()
    ));
    let child = spawn(&program, directories, lib, &log)?;
    wait_until_it_listens(child, &log)
}

fn spawn(program: &Path, directories: &Directories, lib: &Path, log: &Path) -> Result<Child, StartError> {
    let output = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(failed("open", log))?;
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
        .stdout(Stdio::piped())
        .stderr(output)
        .spawn()
        .map_err(failed("run", program))
}

/// The daemon says on its standard output that it listens; when it ends before, so does that.
fn wait_until_it_listens(mut child: Child, log: &Path) -> Result<(), StartError> {
    let mut announcement = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output)
            .read_line(&mut announcement)
            .map_err(failed("read what hulld says; see", log))?;
    }
    if !announcement.is_empty() {
        return Ok(());
    }
    let status = child.wait().map_err(failed("wait for hulld; see", log))?;
    Err(StartError::Ended {
        status,
        log: log.to_owned(),
        tail: tail(log),
    })
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
