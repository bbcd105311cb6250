//! Starting a container.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sandbox::{CallErrorKind, Clock, Sandbox, SandboxError, SandboxSpec, Step};

use crate::boot::Boot;
use crate::container::{Live, Run};
use crate::engine::Shared;
use crate::guest_spec::{GuestSpec, guest_spec};
use crate::log::{LogWriter, Offsets};
use crate::run::{Output, follow};
use crate::streams::{blocking, lock};
use crate::{ContainerState, EngineError, Result, Status};
use crate::{health_monitor, limits, networks, volumes};

/// Starts a container.
pub(crate) async fn start(shared: &Arc<Shared>, live: &Arc<Live>, clock: Clock) -> Result<()> {
    let _operation = live.operation.lock().await;
    check(live)?;
    *lock(&live.restart_pause) = Duration::ZERO;
    start_held(shared, live, clock, 0).await
}

/// Starts a container that stands as restarting; nothing is done when it does not any more.
pub(crate) async fn start_again(shared: &Arc<Shared>, live: &Arc<Live>) -> Result<()> {
    let _operation = live.operation.lock().await;
    let standing = live.watch().borrow().clone();
    if standing.removed || standing.record.state.status != Status::Restarting {
        return Ok(());
    }
    start_held(shared, live, Clock::start(), standing.record.state.restarts).await
}

/// For a caller that holds its operation lock.
async fn start_held(shared: &Arc<Shared>, live: &Arc<Live>, clock: Clock, restarts: u32) -> Result<()> {
    let began = Instant::now();
    let started = run(shared, live, clock, restarts).await;
    shared.meters.started(began.elapsed(), started.as_ref().map(drop));
    match started {
        Ok((run, output)) => {
            tokio::spawn(follow(shared.clone(), live.clone(), run, output));
            Ok(())
        }
        Err(error) => {
            tracing::info!(container = live.id(), %error, "a start failed");
            failed(shared, live, &error).await;
            Err(error)
        }
    }
}

fn check(live: &Live) -> Result<()> {
    let id = live.id();
    let standing = live.watch().borrow().clone();
    match standing.record.state.status {
        _ if standing.removed => Err(EngineError::NoSuchContainer(id.to_owned())),
        Status::Created | Status::Exited => Ok(()),
        Status::Running | Status::Restarting => Err(EngineError::NotModified(id.to_owned())),
        Status::Paused => Err(EngineError::Conflict(
            "cannot start a paused container, try unpause instead".into(),
        )),
        Status::Removing => Err(EngineError::Conflict(
            "container is marked for removal and cannot be started".into(),
        )),
    }
}

/// Brings it up to its init running; nothing of it is left if that fails.
async fn run(shared: &Arc<Shared>, live: &Arc<Live>, clock: Clock, restarts: u32) -> Result<(Run, Output)> {
    let fills = volumes::begin_fills(shared, live).await?;
    let attached = networks::attach(shared, live).await?;
    let guest = guest_spec(&live.record(), &shared.spec.client_files, fills, attached)?;
    let spec = sandbox_spec(shared, live, &guest);
    let mut boot = Boot::new(&shared.templates, spec, clock.clone());
    loop {
        match attempt(live, &boot.spec(), guest.clone(), clock.clone(), restarts).await {
            Err(error) if boot.goes_on_after(&error) => {}
            started => {
                if started.is_ok() {
                    boot.succeeded();
                    if boot.is_restored() {
                        shared.meters.templates_used.inc();
                    }
                }
                return started;
            }
        }
    }
}

async fn attempt(
    live: &Arc<Live>,
    spec: &SandboxSpec,
    guest: GuestSpec,
    clock: Clock,
    restarts: u32,
) -> Result<(Run, Output)> {
    let sandbox = Sandbox::start(spec, clock).map_err(lost(live))?;
    let started = bring_up(live, &sandbox, guest, restarts).await;
    if started.is_err() {
        sandbox.stop().await;
        live.set_run(None);
    }
    started
}

async fn bring_up(
    live: &Arc<Live>,
    sandbox: &Sandbox,
    spec: GuestSpec,
    restarts: u32,
) -> Result<(Run, Output)> {
    let command = spec.init.args.first().cloned().unwrap_or_default();
    let guest = sandbox.guest();
    let created = guest.create_container(spec.container);
    // Both are sent before the agent is up, so that it need not wait for a host that waits for it; but an init waits for
    // its volumes.
    let early = spec
        .fills
        .is_empty()
        .then(|| guest.start_process(spec.init.clone()));
    let log = open_log(live).await?;
    // Its answer waits for the agent to come up.
    let created = networks::plug_meanwhile(sandbox, &spec.cables, created).await;
    created.map_err(|error| refused(live, &command, error))?;
    sandbox.clock().mark(Step::Created);
    for fill in &spec.fills {
        fill.carry_out(sandbox).await?;
    }
    let started = early.unwrap_or_else(|| guest.start_process(spec.init));
    let run = Run {
        sandbox: sandbox.clone(),
        log: log.map(|log| Arc::new(Mutex::new(log))),
    };
    let started = async {
        let started = started.await;
        sandbox.clock().mark(Step::Started);
        started
    };
    // The agent has forked the process before it sees these connections, and the process is on its way to its program
    // while they are made.
    let output = Output::open(live, &run, Offsets::default());
    let (started, output) = tokio::join!(started, output);
    started.map_err(|error| refused(live, &command, error))?;
    sandbox
        .share_cpu(limits::cpu_share(&live.record().config.resources))
        .map_err(lost(live))?;
    live.set_run(Some(run.clone()));
    live.set_health(health_monitor::at_start(live));
    live.change(|standing| {
        standing.record.state = ContainerState {
            status: Status::Running,
            pid: Some(sandbox.record().pid),
            started_at: Some(Timestamp::now()),
            restarts,
            ..ContainerState::default()
        };
        standing.record.sandbox = Some(sandbox.record().clone());
        standing.record.timeline = sandbox.clock().timeline();
    });
    live.save().await?;
    live.tell("start", []);
    let output = match output {
        // A request to start that is too large to come in one piece may be overtaken, and its streams be refused.
        Err(SandboxError::Unexpected { .. }) => Output::open(live, &run, Offsets::default()).await,
        output => output,
    };
    Ok((run, output.map_err(lost(live))?))
}

pub(crate) fn sandbox_spec(shared: &Shared, live: &Live, spec: &GuestSpec) -> SandboxSpec {
    let (lib, record) = (&shared.spec.lib, live.record());
    SandboxSpec {
        id: crate::ids::short(live.id()).to_owned(),
        vmm: lib.join("hull-vmm"),
        kernel: lib.join("vmlinux"),
        initramfs: lib.join("initramfs.cpio"),
        runtime: live.runtime(&shared.microvms()),
        folder: live.folder.path().to_owned(),
        cgroup: shared.cgroup.clone().ok(),
        vcpus: record.vm.vcpus,
        memory_mib: record.vm.memory_mib,
        layers: record.layers.clone(),
        disk: Some(live.folder.disk()),
        folders: spec.folders.clone(),
        nics: networks::nics(&record.config),
        boot_timeout: Duration::MAX,
        template: None,
    }
}

/// Opens its log, if one is kept.
async fn open_log(live: &Arc<Live>) -> Result<Option<LogWriter>> {
    let record = live.record();
    let Some(form) = record.config.log.form_of_checked(&record)? else {
        return Ok(None);
    };
    let (files, grown) = (live.log_files.clone(), live.grown.clone());
    let log = blocking("open a log", move || {
        LogWriter::open(&files, form, Offsets::default(), grown)
            .map_err(EngineError::io("open the log", files.active()))
    })
    .await?;
    live.change(|standing| standing.record.log_start = log.length());
    Ok(Some(log))
}

fn lost(live: &Live) -> impl FnOnce(SandboxError) -> EngineError {
    let id = live.id().to_owned();
    move |source| EngineError::Sandbox {
        action: "start",
        id,
        source,
    }
}

fn refused(live: &Live, command: &str, error: SandboxError) -> EngineError {
    match error {
        SandboxError::Guest(error) => EngineError::Start(refusal(command, &error)),
        error => lost(live)(error),
    }
}

/// The agent's refusal in the words that Docker's clients look for.
pub(crate) fn refusal(command: &str, error: &sandbox::CallError) -> String {
    match error.kind {
        CallErrorKind::CommandNotFound if command.contains('/') => {
            format!("exec: {command:?}: stat {command}: no such file or directory")
        }
        CallErrorKind::CommandNotFound => format!("exec: {command:?}: executable file not found in $PATH"),
        CallErrorKind::CommandNotExecutable if error.message.to_lowercase().contains("is a directory") => {
            format!("exec: {command:?}: is a directory")
        }
        CallErrorKind::CommandNotExecutable => format!("exec: {command:?}: permission denied"),
        CallErrorKind::NoSuchUser | CallErrorKind::NotFound | CallErrorKind::Failed => error.message.clone(),
    }
}

/// The exit code of a process that could not be started, as a shell has it; `None` where a shell has none.
pub(crate) fn exit_code(error: &EngineError) -> Option<i32> {
    let (EngineError::Start(message) | EngineError::Exec(message)) = error else {
        return None;
    };
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&["executable file not found", "no such file or directory"]) {
        Some(127)
    } else if says(&["permission denied", "is a directory"]) {
        Some(126)
    } else {
        None
    }
}

/// Records why a start failed, and ends who was attached for it.
async fn failed(shared: &Arc<Shared>, live: &Arc<Live>, error: &EngineError) {
    let left = networks::detach(shared, live).await;
    networks::tell(shared, live, "disconnect", &left);
    live.change(|standing| {
        let state = &mut standing.record.state;
        state.status = match state.finished_at {
            Some(_) => Status::Exited,
            None => Status::Created,
        };
        state.pid = None;
        state.exit_code = exit_code(error).unwrap_or(128);
        state.error = error.to_string();
        standing.record.sandbox = None;
    });
    live.renew_streams();
    if live.record().config.auto_remove {
        shared.remove_held(live, true).await;
    } else if let Err(error) = live.save().await {
        tracing::warn!(container = live.id(), %error, "a failed start is not written down");
    }
}

#[cfg(test)]
mod tests {
    use sandbox::CallError;

    use super::*;

    #[test]
    fn refusals_have_dockers_words_and_a_shells_exit_codes() {
        let refusal = |command: &str, kind, message: &str| {
            let error = EngineError::Start(refusal(
                command,
                &CallError {
                    kind,
                    message: message.into(),
                },
            ));
            (error.to_string(), exit_code(&error))
        };
        let (text, code) = refusal("foo", CallErrorKind::CommandNotFound, "");
        assert!(
            text.ends_with("exec: \"foo\": executable file not found in $PATH: unknown"),
            "{text}"
        );
        assert_eq!(code, Some(127));
        assert_eq!(refusal("/foo", CallErrorKind::CommandNotFound, "").1, Some(127));
        assert_eq!(
            refusal(
                "/etc",
                CallErrorKind::CommandNotExecutable,
                "Is a directory (os error 21)"
            )
            .1,
            Some(126)
        );
        assert_eq!(
            refusal("/etc/passwd", CallErrorKind::CommandNotExecutable, "").1,
            Some(126)
        );
        assert_eq!(refusal("sh", CallErrorKind::Failed, "mount: no space").1, None);
    }
}
