//! A process that the host started, until the host forgets it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use guest_protocol::{
    ExitStatus, OutputOffsets, ProcessId, ProcessSpec, ProcessState, StreamHello, StreamKind, StreamReply,
    WindowSize,
};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::launch::{Launched, Pipes};
use crate::poll::{EventFlags, Poller, Token, Watched};
use crate::stream::{self, Input, Output};
use crate::{sys, terminal};

/// A process with its streams.
pub(crate) struct Process {
    id: ProcessId,
    pid: Pid,
    /// `None` once it has ended.
    running: Option<Running>,
    exited: Option<ExitStatus>,
    stdin: Option<Input>,
    stdout: Output,
    stderr: Option<Output>,
    /// What the out-of-memory killer had done when it started.
    oom_kills_before: u64,
}

/// What there is of a process only while it runs.
struct Running {
    pidfd: Watched,
    /// For resizing.
    terminal: Option<OwnedFd>,
}

impl Process {
    /// A process that was just launched. Its streams can be connected to from now on.
    fn new(
        poller: &Rc<Poller>,
        spec: &ProcessSpec,
        pid: Pid,
        pidfd: OwnedFd,
        pipes: Pipes,
        oom_kills_before: u64,
    ) -> Result<Self, Errno> {
        let id = spec.id;
        let pidfd = Watched::new(poller, pidfd, Token::Process(id), EventFlags::IN)?;
        let has_terminal = spec.terminal.is_some();
        let mut process = Self {
            id,
            pid,
            running: Some(Running {
                pidfd,
                terminal: None,
            }),
            exited: None,
            stdin: spec.stdin.then(|| Input::pending(has_terminal)),
            stdout: Output::pending(),
            stderr: (!has_terminal).then(Output::pending),
            oom_kills_before,
        };
        if let (Some(input), Some(pipe)) = (&mut process.stdin, pipes.stdin) {
            input.open(poller, pipe, Token::Pipe(id, StreamKind::Stdin))?;
        }
        if let Some(pipe) = pipes.stdout {
            process
                .stdout
                .open(poller, pipe, Token::Pipe(id, StreamKind::Stdout))?;
        }
        if let (Some(output), Some(pipe)) = (&mut process.stderr, pipes.stderr) {
            output.open(poller, pipe, Token::Pipe(id, StreamKind::Stderr))?;
        }
        Ok(process)
    }

    /// The process has opened its terminal.
    pub(crate) fn set_terminal(&mut self, poller: &Rc<Poller>, controller: OwnedFd) -> Result<(), Errno> {
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        if let Some(input) = &mut self.stdin {
            input.open(
                poller,
                copy(&controller)?,
                Token::Pipe(self.id, StreamKind::Stdin),
            )?;
        }
        if let Some(running) = &mut self.running {
            running.terminal = Some(copy(&controller)?);
        }
        self.stdout
            .open(poller, controller, Token::Pipe(self.id, StreamKind::Stdout))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Names the process while it runs.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.pidfd.as_fd())
    }

    /// Sends it a signal; `None` when it has ended.
    pub(crate) fn signal(&self, signal: i32) -> Option<Result<(), Errno>> {
        Some(sys::signal_process(self.pidfd()?, signal))
    }

    /// For a process that never came to run its program.
    pub(crate) fn kill(&self) {
        let _ = self.signal(libc::SIGKILL);
    }

    /// Ends it and waits until nothing of it holds anything, but for being reaped.
    pub(crate) fn end_now(&self) {
        self.kill();
        if let Some(pidfd) = self.pidfd() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = waitid(WaitId::PidFd(pidfd), options);
        }
    }

    /// Resizes its terminal; `None` when it has ended or has none.
    pub(crate) fn resize(&self, size: WindowSize) -> Option<Result<(), Errno>> {
        let terminal = self.running.as_ref()?.terminal.as_ref()?;
        Some(terminal::resize(terminal, size))
    }

    /// It was reaped. Its output may still be on its way.
    pub(crate) fn end(&mut self, code: i32, oom_kills: u64) -> ExitStatus {
        let status = ExitStatus {
            code,
            oom_killed: oom_kills > self.oom_kills_before,
        };
        self.running = None;
        self.exited = Some(status);
        if let Some(input) = &mut self.stdin {
            input.close();
        }
        status
    }

    pub(crate) fn state(&self) -> ProcessState {
        ProcessState {
            id: self.id,
            pid: self.pid.as_raw_nonzero().get(),
            exited: self.exited,
            acknowledged: OutputOffsets {
                stdout: self.stdout.acknowledged(),
                stderr: self.stderr.as_ref().map_or(0, Output::acknowledged),
            },
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.exited.is_some()
    }

    /// Joins a connection to one of its streams.
    pub(crate) fn connect(&mut self, socket: Watched, hello: &StreamHello) {
        let missing = match (hello.stream, &mut self.stdin, &mut self.stderr) {
            (StreamKind::Stdin, Some(input), _) => return input.connect(socket, hello),
            (StreamKind::Stdout, ..) => return self.stdout.connect(socket, hello),
            (StreamKind::Stderr, _, Some(output)) => return output.connect(socket, hello),
            (StreamKind::Stdin, ..) => "stdin",
            (StreamKind::Stderr, ..) => "stderr",
        };
        let message = format!("process {} has no {missing}", self.id);
        stream::reply(&socket, &StreamReply::Refused(message));
    }

    /// The container's end of a stream is ready.
    pub(crate) fn pipe_ready(&mut self, stream: StreamKind) {
        match stream {
            StreamKind::Stdin => self.stdin.iter_mut().for_each(Input::sink_ready),
            StreamKind::Stdout => self.stdout.source_ready(),
            StreamKind::Stderr => self.stderr.iter_mut().for_each(Output::source_ready),
        }
    }

    /// When a stream of it is to be read again although nobody watches it.
    pub(crate) fn rest_until(&self) -> Option<Instant> {
        let stderr = self.stderr.as_ref().and_then(Output::rest_until);
        self.stdout.rest_until().into_iter().chain(stderr).min()
    }

    /// Reads streams again that have rested for long enough.
    pub(crate) fn end_rests(&mut self, now: Instant) {
        self.stdout.end_rest(now);
        self.stderr.iter_mut().for_each(|stderr| stderr.end_rest(now));
    }

    /// The host's end of a stream is ready.
    pub(crate) fn connection_ready(&mut self, stream: StreamKind) {
        match stream {
            StreamKind::Stdin => self.stdin.iter_mut().for_each(Input::connection_ready),
            StreamKind::Stdout => self.stdout.connection_ready(),
            StreamKind::Stderr => self.stderr.iter_mut().for_each(Output::connection_ready),
        }
    }
}

/// What a launch gave, taken apart. A process that cannot be watched is ended.
pub(crate) fn adopt(
    poller: &Rc<Poller>,
    spec: &ProcessSpec,
    launched: Launched,
    oom_kills_before: u64,
) -> Result<(Process, Watched), Errno> {
    let pid = launched.pid;
    let adopt = || {
        let report = Watched::new(poller, launched.report, Token::Report, EventFlags::IN)?;
        let process = Process::new(
            poller,
            spec,
            pid,
            launched.pidfd,
            launched.pipes,
            oom_kills_before,
        )?;
        Ok((process, report))
    };
    adopt().inspect_err(|_| {
        let _ = sys::kill(pid, libc::SIGKILL);
    })
}
