//! A container from the start of its init to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use sandbox::{ExitStatus, Sandbox, SandboxError, Step};

use crate::container::{Live, Run};
use crate::engine::Shared;
use crate::guest_spec::INIT;
use crate::log::Offsets;
use crate::signals;
use crate::streams::{Sink, kind, lock};
use crate::{
    ContainerState, HealthStatus, OutputStream, Status, health_monitor, networks, restart, watchdog,
};

/// How long output may take to arrive after the end of who wrote it. It is there already, and nobody is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The exit code of a process that was ended by SIGKILL, which is what the end of its microVM is to it.
const KILLED: i32 = 128 + signals::KILL;

/// The output of a container's init, connected.
#[derive(Debug)]
pub(crate) struct Output {
    sink: Sink,
    stdout: (sandbox::OutputStream, u64),
    stderr: Option<(sandbox::OutputStream, u64)>,
}

impl Output {
    /// Connects the streams of its init, its output from these offsets on.
    pub(crate) async fn open(live: &Live, run: &Run, from: Offsets) -> Result<Output, SandboxError> {
        let streams = live.streams();
        let sandbox = &run.sandbox;
        let output = async |stream, offset| Ok((sandbox.output(INIT, kind(stream), offset).await?, offset));
        let stderr = async {
            match streams.spec.terminal {
                true => Ok(None),
                false => output(OutputStream::Stderr, from.stderr).await.map(Some),
            }
        };
        let stdin = async {
            if streams.spec.stdin {
                streams.stdin.open(sandbox.input(INIT).await?);
            } else {
                streams.stdin.close();
            }
            Ok::<_, SandboxError>(())
        };
        let (stdout, stderr, ()) =
            tokio::try_join!(output(OutputStream::Stdout, from.stdout), stderr, stdin)?;
        let sink = Sink {
            streams: streams.clone(),
            log: run.log.clone(),
        };
        Ok(Output { sink, stdout, stderr })
    }

    /// Carries everything to log and clients.
    async fn carry(self, sandbox: Sandbox) {
        let Output { sink, stdout, stderr } = self;
        let arrived = || sandbox.clock().mark(Step::FirstOutput);
        let stdout = sink.carry(OutputStream::Stdout, stdout.0, stdout.1, arrived);
        let stderr = async {
            if let Some((stream, offset)) = stderr {
                sink.carry(OutputStream::Stderr, stream, offset, arrived).await;
            }
        };
        tokio::join!(stdout, stderr);
    }
}

/// How a run ended.
struct Outcome {
    status: ExitStatus,
    error: String,
}

/// Sees a run to its end, and ends its microVM.
pub(crate) async fn follow(shared: Arc<Shared>, live: Arc<Live>, run: Run, output: Output) {
    let streams = live.streams();
    let carried = tokio::spawn(output.carry(run.sandbox.clone()));
    let monitor = health_monitor::monitor(&live);
    let exited = tokio::select! {
        exited = run.sandbox.guest().exited(INIT) => exited,
        never = watchdog::watch(&live, run.sandbox.guest()) => match never {},
    };
    drop(monitor);
    run.sandbox.clock().mark(Step::Exited);
    streams.hub.release();
    let abort = carried.abort_handle();
    let drain = async {
        if tokio::time::timeout(DRAIN_TIMEOUT, carried).await.is_err() {
            tracing::warn!(
                container = live.id(),
                "the last output of a container is lost: it does not arrive"
            );
            abort.abort();
        }
    };
    let outcome = match exited {
        Ok(status) => {
            tokio::join!(drain, write_disk(&live, &run.sandbox));
            run.sandbox.stop().await;
            Outcome {
                status,
                error: String::new(),
            }
        }
        Err(error) => {
            // Whether it is gone or only cannot be spoken to: there is no use in it any more.
            run.sandbox.stop().await;
            drain.await;
            Outcome {
                status: ExitStatus {
                    code: KILLED,
                    oom_killed: false,
                },
                error: error.to_string(),
            }
        }
    };
    finish(&shared, &live, Some(&run.sandbox), outcome).await;
}

/// Has the guest write its disk, so that the next start, or whoever reads it, finds all of it.
async fn write_disk(live: &Live, sandbox: &Sandbox) {
    if !live.is_durable() {
        return;
    }
    if let Err(error) = sandbox.guest().sync().await {
        tracing::warn!(container = live.id(), %error, "what a container wrote last may be lost");
    }
}

/// Records the end of a microVM that ended while no engine looked.
pub(crate) async fn found_dead(shared: &Arc<Shared>, live: &Arc<Live>, reason: String) {
    let status = ExitStatus {
        code: KILLED,
        oom_killed: false,
    };
    finish(
        shared,
        live,
        None,
        Outcome {
            status,
            error: reason,
        },
    )
    .await;
}

async fn finish(shared: &Arc<Shared>, live: &Arc<Live>, sandbox: Option<&Sandbox>, outcome: Outcome) {
    let mut left = networks::detach(shared, live).await;
    let config = live.record().config.clone();
    let ephemeral = config.auto_remove && !live.kept.load(Ordering::Acquire);
    let mut record = live.watch().borrow().record.clone();
    record.state = ContainerState {
        // One that goes with its end is never seen as one that could be started again.
        status: if ephemeral {
            Status::Removing
        } else {
            Status::Exited
        },
        pid: None,
        exit_code: outcome.status.code,
        oom_killed: outcome.status.oom_killed,
        error: outcome.error,
        finished_at: Some(Timestamp::now()),
        ..record.state
    };
    let pause = {
        let mut pause = lock(&live.restart_pause);
        let next = restart::next_pause(config.restart, &record.state, *pause);
        *pause = next.unwrap_or_default();
        next
    };
    if pause.is_some() {
        record.state.status = Status::Restarting;
        record.state.restarts = record.state.restarts.saturating_add(1);
    }
    record.sandbox = None;
    record.endpoints.clear();
    if let Some(sandbox) = sandbox {
        record.timeline = sandbox.clock().timeline();
    }
    tracing::debug!(container = live.id(), code = outcome.status.code, timeline = ?record.timeline, "a run ended");
    live.set_run(None);
    // What does not run is not well, as Docker has it.
    live.take_health(|health| {
        health.status = HealthStatus::Unhealthy;
        false
    });
    live.renew_streams();
    live.execs().retain(|exec| !exec.has_started());
    let state = record.state.clone();
    live.save_end(record).await;
    // Whoever connected it meanwhile.
    left.extend(networks::detach(shared, live).await);
    tell_end(live, &state);
    networks::tell(shared, live, "disconnect", &left);
    if let Some(pause) = pause {
        restart::restart_after(shared, live, pause);
    }
    if ephemeral {
        let _operation = live.operation.lock().await;
        if !live.watch().borrow().removed {
            shared.remove_held(live, true).await;
        }
    }
}

fn tell_end(live: &Live, state: &ContainerState) {
    if state.oom_killed {
        live.tell("oom", []);
    }
    let seconds = match (state.started_at, state.finished_at) {
        (Some(started), Some(finished)) => finished.duration_since(started).as_secs(),
        _ => 0,
    };
    live.tell(
        "die",
        [
            ("exitCode", state.exit_code.to_string()),
            ("execDuration", seconds.to_string()),
        ],
    );
}
