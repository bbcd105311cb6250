//! Carrying health checks out while a container runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};

use crate::container::Live;
use crate::engine::complete;
use crate::exec_process::ExecProcess;
use crate::{
    EngineError, ExecCreate, ExecStart, Health, HealthCheck, HealthResult, HealthStatus, Result, Status, ids,
    signals,
};

/// What is kept of a check's output, in bytes.
const KEEP_OUTPUT: usize = 4096;
/// How long the guest may take to end a check that was not in time.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// The exit code of a check that could not be carried out, or was not in time.
const NOT_CARRIED_OUT: i32 = -1;

/// The checks of a run, which end with this.
#[derive(Debug)]
pub(crate) struct Monitor(Option<tokio::task::JoinHandle<()>>);

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The health of a container whose run begins: `None` where nothing is checked.
pub(crate) fn at_start(live: &Live) -> Option<Health> {
    let record = live.record();
    record
        .config
        .health
        .command(&record.config.shell)
        .map(|_| Health::default())
}

/// Checks a container that runs, if it is to be.
pub(crate) fn monitor(live: &Arc<Live>) -> Monitor {
    let record = live.record();
    let config = &record.config;
    let Some(args) = config.health.command(&config.shell) else {
        return Monitor(None);
    };
    Monitor(Some(tokio::spawn(check_on(
        live.clone(),
        config.health.clone(),
        args,
    ))))
}

async fn check_on(live: Arc<Live>, check: HealthCheck, args: Vec<String>) {
    let began = Instant::now();
    loop {
        let starting = live
            .health()
            .is_some_and(|health| health.status == HealthStatus::Starting);
        let early = began.elapsed() < check.start_period();
        sleep(if early && starting {
            check.start_interval()
        } else {
            check.interval()
        })
        .await;
        // One that is held cannot be well, and is not to blame.
        if live.status() != Status::Running {
            continue;
        }
        let early = began.elapsed() < check.start_period();
        let result = probe(&live, &args, check.timeout()).await;
        if let Some(status) = live.take_health(|health| health.take(result, early, check.retries())) {
            live.tell(format!("health_status: {}", status.as_str()), []);
        }
    }
}

/// Carries a check out.
async fn probe(live: &Arc<Live>, args: &[String], timeout: Duration) -> HealthResult {
    let start = Timestamp::now();
    let (exit_code, output) = match execute(live, args, timeout).await {
        Ok(ended) => ended,
        Err(error) => (NOT_CARRIED_OUT, error.to_string()),
    };
    HealthResult {
        start,
        end: Timestamp::now(),
        exit_code,
        output,
    }
}

/// The exit code of the command and the beginning of its output.
async fn execute(live: &Arc<Live>, args: &[String], timeout: Duration) -> Result<(i32, String)> {
    let create = ExecCreate {
        args: args.to_vec(),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecCreate::default()
    };
    let id = ids::new_id().map_err(EngineError::io("read", "random numbers"))?;
    let exec = ExecProcess::new(id, live, create);
    let mut output = Vec::new();
    let carried_out = async {
        let (starting, live) = (exec.clone(), live.clone());
        // Carried through, so that a process which is late to start is followed to its end.
        let attachment = complete(async move { starting.start(&live, ExecStart::default()).await }).await?;
        let mut streams = attachment.map(|attachment| attachment.output);
        while let Some(streams) = &mut streams
            && let Some(chunk) = streams.next().await
        {
            let room = KEEP_OUTPUT.saturating_sub(output.len());
            output.extend_from_slice(&chunk.bytes[..chunk.bytes.len().min(room)]);
        }
        Ok::<_, EngineError>(exec.view().exit_code.unwrap_or(NOT_CARRIED_OUT))
    };
    match timeout_at(Instant::now() + timeout, carried_out).await {
        Ok(code) => Ok((code?, String::from_utf8_lossy(&output).into_owned())),
        Err(_) => {
            // A guest that does not answer must not keep its own failure from being told.
            let _ = tokio::time::timeout(KILL_TIMEOUT, exec.signal(live, signals::KILL)).await;
            Ok((
                NOT_CARRIED_OUT,
                format!("Health check exceeded timeout ({timeout:?})"),
            ))
        }
    }
}
