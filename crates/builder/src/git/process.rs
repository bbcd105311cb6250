//! The `git` program, with nothing of the environment that it is run in.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{GitError, GitOptions, GitReference};
use crate::cancellation::check;

/// What is kept of git's answers and of its complaints, in bytes.
const MAX_OUTPUT: u64 = 16 << 20;
const MAX_COMPLAINT: u64 = 16 << 10;
/// What shows of a complaint, in characters.
const MAX_SHOWN: usize = 500;
/// Runs git with a limit for the files that it writes, in blocks of 512 bytes (POSIX.1-2017, "ulimit").
const LIMITED: &str = r#"ulimit -f "$0" && exec git "$@""#;

/// Git, in one repository.
pub(super) struct Git<'a> {
    folder: &'a Path,
    reference: &'a GitReference,
    options: &'a GitOptions,
}

impl<'a> Git<'a> {
    /// With a repository in `folder`, which may not be there yet.
    pub(super) fn new(folder: &'a Path, reference: &'a GitReference, options: &'a GitOptions) -> Self {
        Self {
            folder,
            reference,
            options,
        }
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    /// Runs git; what it says.
    pub(super) fn output(&self, action: &'static str, arguments: &[&str]) -> Result<String, GitError> {
        let mut text = Vec::new();
        let read = self.run(action, arguments, |output| {
            output.take(MAX_OUTPUT).read_to_end(&mut text).map(drop)
        })?;
        read.map_err(GitError::Run)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs git and has `consume` read what it writes. That it failed counts before what was made of its output.
    pub(super) fn run<T>(
        &self,
        action: &'static str,
        arguments: &[&str],
        consume: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T, GitError> {
        let token = &self.options.token;
        check(token)?;
        let watching = Watch::prepare().map_err(GitError::Run)?;
        let mut child = self.command(arguments).spawn().map_err(GitError::Run)?;
        let deadline = Instant::now() + self.options.time;
        let watch = watching.begin(&child, deadline, token);
        let complaints = child
            .stderr
            .take()
            .map(|stderr| thread::spawn(move || read_complaint(stderr)));
        let consumed = child.stdout.take().map(|mut stdout| {
            let consumed = consume(&mut stdout);
            // What nobody wants any more must not keep git waiting.
            drop(stdout);
            consumed
        });
        let was_killed = watch.end();
        let status = wait(&mut child, deadline, token);
        if status.is_none() {
            kill_group(&child);
            // It has been killed: this does not wait for long.
            let _ = child.wait();
        }
        let is_late = was_killed || status.is_none();
        let complaint = complaints
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        check(token)?;
        if is_late {
            return Err(GitError::TooSlow {
                action,
                remote: self.reference.shown(),
                time: self.options.time,
            });
        }
        match (status, consumed) {
            (Some(status), Some(consumed)) if status.success() || was_cut(status) => Ok(consumed),
            // The shell's word for a program that is not there.
            (Some(status), _) if status.code() == Some(127) => Err(GitError::NoGit),
            _ => Err(self.failed(action, &complaint)),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let schemes = if self.reference.is_local() {
            "file"
        } else {
            "https:http:git:ssh"
        };
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", LIMITED, &(self.options.max_bytes / 512).max(1).to_string()])
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "gc.auto=0",
                "-c",
                "maintenance.auto=false",
            ])
            .args(arguments)
            .current_dir(self.folder)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", "ssh -F /dev/null -oBatchMode=yes -oIdentitiesOnly=yes -oIdentityFile=none -oIdentityAgent=none")
            .env("GIT_ALLOW_PROTOCOL", schemes)
            .env("GIT_ATTR_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if self.repository().is_dir() {
            command.env("GIT_DIR", self.repository());
        }
        // Those of the daemon, as for everything else that it downloads.
        for name in ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    fn failed(&self, action: &'static str, complaint: &str) -> GitError {
        // Git repeats the URL that it was given, password and all.
        let hidden = complaint.replace(&self.reference.remote, &self.reference.shown());
        let lines = hidden.lines().map(str::trim).filter(|line| !line.is_empty());
        let said = lines.collect::<Vec<_>>().join("; ");
        let said: String = said.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        GitError::Failed {
            action,
            remote: self.reference.shown(),
            message: if said.is_empty() {
                "git was ended".to_owned()
            } else {
                said
            },
        }
    }
}

/// Whether git was ended because nobody wanted its output any more: who did not want it has the reason.
fn was_cut(status: ExitStatus) -> bool {
    const SIGPIPE: i32 = 13;
    status.signal() == Some(SIGPIPE) || status.code() == Some(128 + SIGPIPE)
}

fn read_complaint(mut stderr: impl Read) -> String {
    let mut text = Vec::new();
    let read = stderr.by_ref().take(MAX_COMPLAINT).read_to_end(&mut text);
    // The rest is read, so that git does not wait for it.
    let _ = read.and_then(|_| io::copy(&mut stderr, &mut io::sink()));
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until the deadline, or until nobody waits any more.
fn wait(child: &mut Child, deadline: Instant, token: &CancellationToken) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline && !token.is_cancelled() => {
                thread::sleep(Duration::from_millis(5))
            }
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Ends git and what it has started.
fn kill_group(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // One that has ended needs no more.
    let _ = pid.map(|pid| kill_process_group(pid, Signal::KILL));
}

/// Ends git at a deadline or when nobody waits for it any more, while its output is being read.
struct Watch {
    ended: oneshot::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

/// What a watch needs, which may not be there: a thread without a runtime cannot wait for several things.
struct Watching(Runtime);

impl Watch {
    fn prepare() -> io::Result<Watching> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.map(Watching)
    }

    /// Whether git was killed.
    fn end(self) -> bool {
        let _ = self.ended.send(());
        self.thread.join().unwrap_or(false)
    }
}

impl Watching {
    /// The child must not have been waited for before [`Watch::end`]: its number could be another's then.
    fn begin(self, child: &Child, deadline: Instant, token: &CancellationToken) -> Watch {
        let (ended, end) = oneshot::channel();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let token = token.clone();
        let thread = thread::spawn(move || {
            let watched = self.0.block_on(async {
                let end = token.run_until_cancelled(end);
                tokio::time::timeout_at(deadline.into(), end).await
            });
            let has_ended = matches!(watched, Ok(Some(_)));
            if let Some(pid) = pid.filter(|_| !has_ended) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            !has_ended
        });
        Watch { ended, thread }
    }
}
