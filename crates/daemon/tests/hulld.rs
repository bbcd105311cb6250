//! The built `hulld`, from its start to its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Folders for daemons.
struct Place {
    folder: TempDir,
}

/// A daemon that has said that it listens.
struct Daemon {
    process: Child,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("lib"))?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("run/hull.sock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hulld"));
        command.arg("--root").arg(self.path("root"));
        command.arg("--runtime").arg(self.path("run"));
        command.arg("--lib").arg(self.path("lib"));
        command.stdin(Stdio::null());
        command
    }

    fn start(&self) -> Result<Daemon> {
        let mut process = self.command().stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(process.stdout.take().context("no stdout")?).read_line(&mut said)?;
        let daemon = Daemon { process };
        ensure!(
            said == format!("listening on unix://{}\n", self.socket().display()),
            "it said {said:?}"
        );
        Ok(daemon)
    }
}

impl Daemon {
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        Ok(kill_process(pid, signal)?)
    }

    fn exit_code(&mut self) -> Result<Option<i32>> {
        Ok(self.process.wait()?.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The answer to a ping.
fn ping(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: hull\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn it_serves_once_it_says_so_and_ends_cleanly_on_either_signal() -> Result<()> {
    let place = Place::new()?;
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = place.start()?;
        assert!(ping(&place.socket())?.ends_with("\r\n\r\nOK"));
        let pid = std::fs::read_to_string(place.path("run/hulld.pid"))?;
        assert_eq!(pid.trim(), daemon.process.id().to_string());
        // A client that stays connected does not hold up the end.
        let _idle = UnixStream::connect(place.socket())?;
        daemon.signal(signal)?;
        assert_eq!(daemon.exit_code()?, Some(0));
        assert!(!place.socket().exists() && !place.path("run/hulld.pid").exists());
    }
    Ok(())
}

#[test]
fn a_second_daemon_on_the_same_folders_is_refused_and_names_the_first() -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start()?;
    let second = place.command().output()?;
    let stderr = String::from_utf8(second.stderr)?;
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    let first = format!("another hulld (pid {}) works on", daemon.process.id());
    assert!(stderr.contains(&first), "{stderr}");
    assert!(ping(&place.socket())?.ends_with("OK"), "the first goes on");
    Ok(())
}

#[test]
fn a_daemon_that_was_killed_does_not_stand_in_the_way_of_the_next() -> Result<()> {
    let place = Place::new()?;
    let mut killed = place.start()?;
    killed.signal(Signal::KILL)?;
    killed.exit_code()?;
    assert!(place.socket().exists(), "a killed daemon leaves its socket");
    let _next = place.start()?;
    assert!(ping(&place.socket())?.ends_with("OK"));
    Ok(())
}

#[test]
fn a_socket_that_cannot_be_had_is_a_clear_error() -> Result<()> {
    let place = Place::new()?;
    let file = place.path("file");
    std::fs::write(&file, "")?;
    let refused = place
        .command()
        .arg("--host")
        .arg(format!("unix://{}", file.display()))
        .output()?;
    let stderr = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr.contains("is no socket"), "{stderr}");
    assert!(!place.path("run/hulld.pid").exists());
    Ok(())
}

#[test]
fn a_hang_up_has_the_log_level_read_again() -> Result<()> {
    let place = Place::new()?;
    let (config, log) = (place.path("hulld.json"), place.path("log"));
    std::fs::write(&config, r#"{"log-level":"warn"}"#)?;
    let mut command = place.command();
    command.arg("--config-file").arg(&config);
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log)?)
        .spawn()?;
    let mut said = String::new();
    BufReader::new(process.stdout.take().context("no stdout")?).read_line(&mut said)?;
    let mut daemon = Daemon { process };
    let log_has = |words: &str| -> Result<()> {
        // There is no event for a line in a file.
        for _ in 0..400 {
            if std::fs::read_to_string(&log)?.contains(words) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        anyhow::bail!("{words:?} is not in the log: {}", std::fs::read_to_string(&log)?)
    };
    std::fs::write(&config, "{")?;
    daemon.signal(Signal::HUP)?;
    log_has("the log level stays as it is")?;
    std::fs::write(&config, r#"{"debug":true}"#)?;
    daemon.signal(Signal::HUP)?;
    log_has("the log level is debug")?;
    daemon.signal(Signal::TERM)?;
    assert_eq!(daemon.exit_code()?, Some(0));
    Ok(())
}

/// `hulld`, started as a service manager does it: with a listening socket as descriptor 3 (`sd_listen_fds(3)`).
fn activated(place: &Place, socket: impl Into<OwnedFd>) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    command.args(["-c", script, "sh"]);
    let hulld = place.command();
    command.arg(hulld.get_program()).args(hulld.get_args());
    command.args(["--host", "fd://"]).stdin(socket.into());
    command
}

#[test]
fn a_service_managers_socket_is_served_and_left_where_it_is() -> Result<()> {
    let place = Place::new()?;
    let path = place.path("activated.sock");
    let socket = UnixListener::bind(&path)?;
    let manager = UnixDatagram::bind(place.path("notify.sock"))?;
    // The client comes before the daemon is there.
    let mut early = UnixStream::connect(&path)?;
    early.write_all(b"GET /_ping HTTP/1.1\r\nHost: hull\r\nConnection: close\r\n\r\n")?;
    let process = activated(&place, socket.try_clone()?)
        .env("NOTIFY_SOCKET", place.path("notify.sock"))
        .stdout(Stdio::null())
        .spawn()?;
    let mut daemon = Daemon { process };
    let mut said = [0; 64];
    let length = manager.recv(&mut said)?;
    assert_eq!(&said[..length], b"READY=1\n");
    let mut answer = String::new();
    early.read_to_string(&mut answer)?;
    assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
    daemon.signal(Signal::TERM)?;
    assert_eq!(daemon.exit_code()?, Some(0));
    assert!(path.exists() && !place.socket().exists());
    let length = manager.recv(&mut said)?;
    assert_eq!(&said[..length], b"STOPPING=1\n");
    // The next one takes it over.
    let mut next = Daemon {
        process: activated(&place, socket).stdout(Stdio::null()).spawn()?,
    };
    assert!(ping(&path)?.ends_with("OK"));
    next.signal(Signal::TERM)?;
    assert_eq!(next.exit_code()?, Some(0));
    Ok(())
}

#[test]
fn sockets_that_nobody_handed_over_or_that_would_be_open_to_all_are_refused() -> Result<()> {
    let place = Place::new()?;
    let refused = place.command().args(["--host", "fd://"]).output()?;
    let stderr = String::from_utf8(refused.stderr)?;
    assert!(stderr.contains("LISTEN_FDS"), "{stderr}");
    let port = std::net::TcpListener::bind("127.0.0.1:0")?;
    let refused = activated(&place, port).output()?;
    let stderr = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr.contains("Give --tlsverify"), "{stderr}");
    Ok(())
}
