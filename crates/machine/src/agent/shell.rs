//! A command in the helper VM for `hull machine shell`.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::PATH;
use super::async_file::AsyncFile;
use crate::link::LinkStream;
use crate::protocol::{Message, ProtocolError, ShellSpec, Terminal, WindowSize};

const LOGIN_SHELL: &str = "/bin/sh";
const READ_BUFFER: usize = 32 * 1024;
/// Blocks of output that wait for the link.
const OUTPUT_QUEUE: usize = 4;
/// Exit codes of a shell for a program that is not there, or not to be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// How long output may still come after the command ended, from processes it left in the background.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// Run the command with the host's streams and report how it ended.
pub(super) async fn run(stream: LinkStream, spec: ShellSpec) -> Result<(), ProtocolError> {
    let (mut from_host, mut to_host) = tokio::io::split(stream);
    let session = match Session::start(&spec) {
        Ok(session) => session,
        Err(e) => {
            let text = format!("hull machine shell: {}: {e}\n", spec.command.join(" "));
            Message::ErrorOutput(text.into_bytes()).send(&mut to_host).await?;
            let code = if e.kind() == io::ErrorKind::NotFound {
                NOT_FOUND
            } else {
                NOT_EXECUTABLE
            };
            return Message::Exit(code).send(&mut to_host).await;
        }
    };
    let Session {
        mut child,
        input,
        size,
        outputs,
    } = session;
    let group = ProcessGroup::of(&child);
    let (queue, mut queued) = mpsc::channel(OUTPUT_QUEUE);
    for output in outputs {
        tokio::spawn(read_output(output, queue.clone()));
    }
    drop(queue);
    let status = {
        let mut feeding = std::pin::pin!(feed(&mut from_host, input, size));
        let mut waiting = std::pin::pin!(child.wait());
        let mut fed = false;
        loop {
            tokio::select! {
                Some(message) = queued.recv() => message.send(&mut to_host).await?,
                // The caller is gone: so is the command, when its process group is dropped.
                gone = &mut feeding, if !fed => {
                    gone?;
                    fed = true;
                }
                status = &mut waiting => break status?,
            }
        }
    };
    let drain = async {
        while let Some(message) = queued.recv().await {
            message.send(&mut to_host).await?;
        }
        Ok::<_, ProtocolError>(())
    };
    // What the command left in the background on purpose goes on.
    group.release();
    if let Ok(drained) = timeout(DRAIN_PATIENCE, drain).await {
        drained?;
    }
    Message::Exit(exit_code(status)).send(&mut to_host).await?;
    Ok(to_host.shutdown().await?)
}

/// What the command writes, and the message that carries it.
type Output = (Box<dyn AsyncRead + Send + Unpin>, fn(Vec<u8>) -> Message);
type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// A command that runs, with the host's side of its streams.
struct Session {
    child: Child,
    /// Taken away at the end of standard input.
    input: Option<Input>,
    /// What changes the size of its terminal.
    size: Option<OwnedFd>,
    outputs: Vec<Output>,
}

impl Session {
    fn start(spec: &ShellSpec) -> io::Result<Self> {
        match &spec.terminal {
            Some(terminal) => Self::on_terminal(spec, terminal),
            None => Self::on_pipes(spec),
        }
    }

    fn on_pipes(spec: &ShellSpec) -> io::Result<Self> {
        let (program, arguments) = program(spec);
        let mut child = command(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut outputs: Vec<Output> = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            outputs.push((Box::new(stdout), Message::Output));
        }
        if let Some(stderr) = child.stderr.take() {
            outputs.push((Box::new(stderr), Message::ErrorOutput));
        }
        let input = child.stdin.take().map(|stdin| Box::new(stdin) as Input);
        Ok(Session {
            child,
            input,
            size: None,
            outputs,
        })
    }

    /// busybox's `setsid -c` makes the terminal the command's controlling one.
    fn on_terminal(spec: &ShellSpec, terminal: &Terminal) -> io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        set_size(&master, terminal.size);
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let open_slave = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOCTTY)
                .open(OsStr::from_bytes(name.to_bytes()))
        };
        let (program, arguments) = program(spec);
        let child = command("/bin/busybox")
            .args(["setsid", "-c", program])
            .args(arguments)
            .env("TERM", &terminal.kind)
            .stdin(open_slave()?)
            .stdout(open_slave()?)
            .stderr(open_slave()?)
            .spawn()?;
        let size = master.try_clone()?;
        let (output, input) = tokio::io::split(AsyncFile::new(master)?);
        Ok(Session {
            child,
            input: Some(Box::new(input)),
            size: Some(size),
            outputs: vec![(Box::new(output), Message::Output)],
        })
    }
}

fn program(spec: &ShellSpec) -> (&str, &[String]) {
    match spec.command.split_first() {
        Some((program, arguments)) => (program, arguments),
        None => (LOGIN_SHELL, &[]),
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("USER", "root")
        .current_dir("/");
    command
}

/// Pass the host's messages on to the command. Ends with an error when the host is gone, else when there is
/// nothing more to pass on.
async fn feed(
    from_host: &mut (impl AsyncRead + Unpin),
    mut input: Option<Input>,
    size: Option<OwnedFd>,
) -> Result<(), ProtocolError> {
    while let Some(message) = Message::receive(from_host).await? {
        match message {
            Message::Input(bytes) => {
                // A command that closed its standard input does not care for the rest.
                if let Some(to) = &mut input
                    && to.write_all(&bytes).await.is_err()
                {
                    input = None;
                }
            }
            Message::InputEnd => input = None,
            Message::Resize(to) => {
                if let Some(terminal) = &size {
                    set_size(terminal, to);
                }
            }
            _ => {}
        }
    }
    Err(ProtocolError::Io(io::ErrorKind::ConnectionAborted.into()))
}

fn set_size(terminal: impl AsFd, size: WindowSize) {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // A terminal of the wrong size still works.
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

async fn read_output((mut output, wrap): Output, queue: mpsc::Sender<Message>) {
    let mut buffer = vec![0; READ_BUFFER];
    while let Ok(n @ 1..) = output.read(&mut buffer).await {
        if queue.send(wrap(buffer[..n].to_vec())).await.is_err() {
            return;
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The command and what it started. Dropped before the command has ended, because the caller is gone, it is
/// killed.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        ProcessGroup(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
    }

    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails when nobody is left in it.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}
