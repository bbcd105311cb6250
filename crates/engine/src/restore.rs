//! Finding again what an earlier engine left.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sandbox::{Sandbox, SandboxError, SandboxRecord};

use crate::container::{Live, Run};
use crate::engine::Shared;
use crate::events::Events;
use crate::exec_process::reserve_ids;
use crate::folder::{ContainerFolder, is_remnant};
use crate::guest_spec::INIT;
use crate::log::{LogWriter, Offsets, recover};
use crate::run::{Output, follow, found_dead};
use crate::streams::blocking;
use crate::{EngineError, Result, Status, build, health_monitor, networks, pause, restart};

/// Reads all containers, goes on with those that run, and removes what a crash left half made or half removed.
pub(crate) async fn restore(shared: &Arc<Shared>) -> Result<()> {
    let containers = shared.containers();
    let events = shared.events.clone();
    networks::begin_telling_refusals(shared);
    let found = blocking("read the containers", move || read_all(&containers, &events)).await?;
    // Each step for all of them: some are linked to others, and who has ended takes a bridge along that nobody is known to use.
    for live in &found {
        shared.registry.insert(live.clone());
    }
    for live in &found {
        networks::adopt(shared, live).await;
    }
    let mut resumed = tokio::task::JoinSet::new();
    for live in found {
        if live.is_up() || live.watch().borrow().record.sandbox.is_some() {
            let shared = shared.clone();
            resumed.spawn(async move { resume(&shared, &live).await });
        }
    }
    resumed.join_all().await;
    remove_strays(shared).await;
    build::sweep(shared).await;
    networks::begin(shared).await;
    restart::begin(shared);
    Ok(())
}

fn read_all(containers: &Path, events: &Events) -> Result<Vec<Arc<Live>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(containers).map_err(EngineError::io("read the folder", containers))? {
        let path = entry
            .map_err(EngineError::io("read the folder", containers))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_remnant(&name) {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(folder = %path.display(), %error, "a remnant of a container stays");
            }
            continue;
        }
        match read(path.clone(), events) {
            // Nobody goes on with its build.
            Ok(live) if live.record().config.of_build => {
                if let Err(error) = fs::remove_dir_all(&path) {
                    tracing::warn!(folder = %path.display(), %error, "a remnant of a build stays");
                }
            }
            Ok(live) => found.push(live),
            // One damaged container must not keep the others from being used.
            Err(error) => tracing::error!(folder = %path.display(), %error, "a container cannot be read"),
        }
    }
    Ok(found)
}

fn read(path: PathBuf, events: &Events) -> Result<Arc<Live>> {
    let folder = ContainerFolder::new(path);
    let record = folder.read_record()?;
    let state = folder.read_state()?;
    Ok(Live::new(record, folder, state, events.clone()))
}

/// Goes on with a container that ran when the earlier engine ended.
async fn resume(shared: &Arc<Shared>, live: &Arc<Live>) {
    let reason = match reconnect(live).await {
        Ok((run, output)) => {
            tokio::spawn(follow(shared.clone(), live.clone(), run, output));
            return;
        }
        Err(error) => error.to_string(),
    };
    tracing::info!(
        container = live.id(),
        reason,
        "a container has ended while no engine ran"
    );
    found_dead(shared, live, reason).await;
}

async fn reconnect(live: &Arc<Live>) -> Result<(Run, Output)> {
    let state = live.watch().borrow().record.clone();
    let id = live.id().to_owned();
    let failed = |source| EngineError::Sandbox {
        action: "find",
        id: id.clone(),
        source,
    };
    let Some(record) = state.sandbox else {
        return Err(EngineError::Internal("its microVM was not written down".into()));
    };
    let sandbox = Sandbox::reconnect(record.clone(), state.timeline)
        .await
        .map_err(|error| match error {
            SandboxError::Gone { .. } => EngineError::Internal(gone(&record)),
            error => failed(error),
        })?;
    let processes = sandbox.guest().processes().await.map_err(failed)?;
    reserve_ids(processes.iter().map(|process| process.id));
    let (log, logged) = recover_log(live, state.log_start, acknowledged(&processes)).await?;
    let is_paused = state.state.status == Status::Paused;
    // Whether it is still held is asked of nobody: it is made so.
    if is_paused && !state.held_by_engine {
        pause::hold(sandbox.guest()).await.map_err(failed)?;
    } else {
        // One that cannot go on has ended, which is told below.
        let _ = sandbox.guest().freeze(false).await;
    }
    let run = Run {
        sandbox,
        log: log.map(|log| Arc::new(Mutex::new(log))),
    };
    live.set_run(Some(run.clone()));
    live.set_health(health_monitor::at_start(live));
    if is_paused && state.held_by_engine {
        // Whoever worked on it is gone.
        pause::resume(live).await?;
    }
    let output = Output::open(live, &run, logged).await.map_err(failed)?;
    let record = live.record();
    let config = &record.config;
    if config.stdin_once && !config.terminal {
        // The one client that its stdin was for went with the earlier engine.
        live.streams().stdin.end().await;
    }
    Ok((run, output))
}

/// What of the output of its init is safe with us, as far as the agent was told.
fn acknowledged(processes: &[sandbox::ProcessState]) -> Offsets {
    let init = processes.iter().find(|process| process.id == INIT);
    init.map_or_else(Offsets::default, |init| Offsets {
        stdout: init.acknowledged.stdout,
        stderr: init.acknowledged.stderr,
    })
}

/// Its log, if one is kept, and up to where each stream is told: the log knows more than the agent was told, but for
/// what is not kept any more.
async fn recover_log(live: &Live, start: u64, acknowledged: Offsets) -> Result<(Option<LogWriter>, Offsets)> {
    let record = live.record();
    let Some(form) = record.config.log.form_of_checked(&record)? else {
        return Ok((None, acknowledged));
    };
    let (files, grown) = (live.log_files.clone(), live.grown.clone());
    blocking("recover a log", move || {
        let recovered = recover(&files, start).map_err(EngineError::io("recover the log", files.active()))?;
        let logged = recovered.max(acknowledged);
        let log = LogWriter::open(&files, form, logged, grown)
            .map_err(EngineError::io("open the log", files.active()))?;
        Ok((Some(log), logged))
    })
    .await
}

/// Why a microVM is gone, from what its VMM left behind.
fn gone(record: &SandboxRecord) -> String {
    format!("its microVM ended while no engine ran: {}", record.end())
}

/// Ends microVMs that no container has: those whose start was cut short, and those that cannot be spoken to.
async fn remove_strays(shared: &Shared) {
    let Ok(entries) = fs::read_dir(shared.microvms()) else {
        return;
    };
    let (cgroup, containers) = (shared.cgroup.as_deref().ok(), shared.registry.all());
    let running: HashSet<_> = containers
        .iter()
        .filter_map(|live| Some(live.run()?.sandbox.record().runtime.clone()))
        .collect();
    for entry in entries.flatten().map(|entry| entry.path()) {
        if running.contains(&entry) {
            continue;
        }
        tracing::info!(folder = %entry.display(), "a stray microVM is removed");
        if let Err(error) = sandbox::remove_stray(&entry, cgroup).await {
            tracing::warn!(folder = %entry.display(), %error, "the sockets of a stray microVM stay");
        }
    }
}
