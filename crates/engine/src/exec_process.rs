//! An exec in memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbox::{ProcessId, Sandbox, SandboxError};

use crate::container::Live;
use crate::guest_spec::{INIT, exec};
use crate::start::{exit_code, refusal};
use crate::streams::{ClientSpec, Detached, Sink, Streams, StreamsSpec, kind};
use crate::{Attachment, EngineError, Exec, ExecCreate, ExecStart, OutputStream, Result};

/// How many execs that have ended are kept for those who ask for their exit codes.
const KEEP_ENDED: usize = 64;

/// Ids of processes are never used twice in a microVM; nor in all of them, which is simpler.
static LAST_PROCESS: AtomicU32 = AtomicU32::new(INIT);

/// An exec in memory.
#[derive(Debug)]
pub(crate) struct ExecProcess {
    pub(crate) id: String,
    container_id: String,
    create: ExecCreate,
    streams: Arc<Streams>,
    state: Mutex<ExecState>,
}

#[derive(Clone, Debug, Default)]
struct ExecState {
    process: Option<ProcessId>,
    pid: i32,
    exit_code: Option<i32>,
}

/// Keeps ids from being used that an earlier engine gave to processes that may still be there.
pub(crate) fn reserve_ids(used: impl IntoIterator<Item = ProcessId>) {
    for id in used {
        LAST_PROCESS.fetch_max(id, Ordering::Relaxed);
    }
}

/// An id that no process has had.
pub(crate) fn next_process() -> ProcessId {
    LAST_PROCESS.fetch_add(1, Ordering::Relaxed) + 1
}

impl ExecProcess {
    /// An exec that is yet to be started.
    pub(crate) fn new(id: String, live: &Live, create: ExecCreate) -> Arc<ExecProcess> {
        let spec = StreamsSpec {
            terminal: create.terminal,
            stdin: create.attach_stdin,
            stdin_once: true,
        };
        Arc::new(ExecProcess {
            id,
            container_id: live.id().to_owned(),
            create,
            streams: Streams::new(spec),
            state: Mutex::default(),
        })
    }

    pub(crate) fn view(&self) -> Exec {
        let state = self.state().clone();
        Exec {
            id: self.id.clone(),
            container_id: self.container_id.clone(),
            config: self.create.clone(),
            running: state.process.is_some() && state.exit_code.is_none(),
            exit_code: state.exit_code,
            pid: state.pid,
        }
    }

    pub(crate) fn has_started(&self) -> bool {
        self.state().process.is_some()
    }

    /// Starts it.
    pub(crate) async fn start(
        self: &Arc<Self>,
        live: &Arc<Live>,
        start: ExecStart,
    ) -> Result<Option<Attachment>> {
        let sandbox = live.running("")?.sandbox;
        let process = self.claim()?;
        let client = ClientSpec {
            stdin: self.create.attach_stdin,
            stdout: self.create.attach_stdout,
            stderr: self.create.attach_stderr,
            detach_keys: self.create.detach_keys.clone(),
            detached: Detached::Exec(live.clone(), self.id.clone()),
        };
        let attachment = if start.detach {
            None
        } else {
            Some(self.streams.attach(&client)?)
        };
        match self.bring_up(live, &sandbox, process, start).await {
            Ok(follow) => {
                tokio::spawn(follow);
                Ok(attachment)
            }
            Err(error) => {
                // Docker has a shell's "cannot execute" for everything it knows no better code for.
                self.state().exit_code = Some(exit_code(&error).unwrap_or(126));
                self.streams.close();
                Err(error)
            }
        }
    }

    /// Sends it a signal. Whether it still runs is its own matter.
    pub(crate) async fn signal(&self, live: &Live, signal: i32) {
        let process = self.state().process;
        if let (Some(process), Some(run)) = (process, live.run()) {
            let _ = run.sandbox.guest().signal(process, signal).await;
        }
    }

    /// Resizes its terminal.
    pub(crate) async fn resize(&self, live: &Live, size: sandbox::WindowSize) -> Result<()> {
        let sandbox = live.running("")?.sandbox;
        let state = self.state().clone();
        let (Some(process), None) = (state.process, state.exit_code) else {
            return Err(EngineError::Conflict(format!("exec {} is not running", self.id)));
        };
        let resized = sandbox.guest().resize(process, size).await;
        resized.map_err(|source| self.lost("resize an exec in")(source))
    }

    /// Makes sure that it is started once.
    fn claim(&self) -> Result<ProcessId> {
        let mut state = self.state();
        if state.process.is_some() {
            return Err(EngineError::Conflict(format!(
                "exec command {} has already run",
                self.id
            )));
        }
        let process = next_process();
        state.process = Some(process);
        Ok(process)
    }

    /// Starts the process and connects its streams; answers what sees it to its end.
    async fn bring_up(
        self: &Arc<Self>,
        live: &Arc<Live>,
        sandbox: &Sandbox,
        process: ProcessId,
        start: ExecStart,
    ) -> Result<impl Future<Output = ()> + Send + use<>> {
        let spec = exec(&live.record(), &self.create, process, start.size)?;
        let command = spec.args.first().cloned().unwrap_or_default();
        let started = sandbox.guest().start_process(spec).await;
        let pid = started.map_err(|error| match error {
            SandboxError::Guest(error) => EngineError::Exec(refusal(&command, &error)),
            error => self.lost("exec in")(error),
        })?;
        self.state().pid = pid;
        let action = format!("exec_start: {}", self.create.args.join(" "));
        live.tell(action, [("execID", self.id.clone())]);
        let stdout = sandbox.output(process, kind(OutputStream::Stdout), 0);
        let stderr = async {
            match self.create.terminal {
                true => Ok(None),
                false => sandbox
                    .output(process, kind(OutputStream::Stderr), 0)
                    .await
                    .map(Some),
            }
        };
        let stdin = async {
            if self.create.attach_stdin {
                // A process that has ended already takes no input; a guest that is lost is told of by the other streams.
                match sandbox.input(process).await {
                    Ok(input) => self.streams.stdin.open(input),
                    Err(_) => self.streams.stdin.close(),
                }
            } else {
                self.streams.stdin.close();
            }
            Ok::<_, SandboxError>(())
        };
        let (stdout, stderr, ()) = tokio::try_join!(stdout, stderr, stdin).map_err(self.lost("exec in"))?;
        Ok(self
            .clone()
            .follow(live.clone(), sandbox.clone(), process, stdout, stderr))
    }

    async fn follow(
        self: Arc<Self>,
        live: Arc<Live>,
        sandbox: Sandbox,
        process: ProcessId,
        stdout: sandbox::OutputStream,
        stderr: Option<sandbox::OutputStream>,
    ) {
        let sink = Sink {
            streams: self.streams.clone(),
            log: None,
        };
        let carry = async {
            let stderr = async {
                if let Some(stream) = stderr {
                    sink.carry(OutputStream::Stderr, stream, 0, || {}).await;
                }
            };
            tokio::join!(sink.carry(OutputStream::Stdout, stdout, 0, || {}), stderr);
        };
        let exit = async {
            let exited = sandbox.guest().exited(process).await;
            let code = exited.as_ref().map_or(exit_code_of_lost(), |status| status.code);
            self.state().exit_code = Some(code);
            live.tell(
                "exec_die",
                [("execID", self.id.clone()), ("exitCode", code.to_string())],
            );
            self.streams.hub.release();
            exited.is_ok()
        };
        let ((), told) = tokio::join!(carry, exit);
        self.streams.close();
        if told {
            // A failure is the end of the microVM.
            let _ = sandbox.guest().forget(process).await;
        }
    }

    fn lost(&self, action: &'static str) -> impl FnOnce(SandboxError) -> EngineError {
        let id = self.container_id.clone();
        move |source| EngineError::Sandbox { action, id, source }
    }

    fn state(&self) -> MutexGuard<'_, ExecState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exit code of a process that went with its microVM.
fn exit_code_of_lost() -> i32 {
    128 + crate::signals::KILL
}

/// Adds an exec to those of its container, and forgets the oldest of too many that have ended.
pub(crate) fn add(live: &Live, exec: Arc<ExecProcess>) {
    let mut execs = live.execs();
    execs.push(exec);
    let ended = |exec: &Arc<ExecProcess>| exec.state().exit_code.is_some();
    let mut surplus = execs
        .iter()
        .filter(|exec| ended(exec))
        .count()
        .saturating_sub(KEEP_ENDED);
    execs.retain(|exec| {
        let drop = surplus > 0 && ended(exec);
        surplus -= usize::from(drop);
        !drop
    });
}
