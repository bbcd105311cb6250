//! A container in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use sandbox::Sandbox;
use tokio::sync::watch;

use crate::events::{EventKind, Events};
use crate::exec_process::ExecProcess;
use crate::folder::{ContainerFolder, ContainerRecord, StateRecord};
use crate::log::{LogDriver, LogFiles, LogWriter};
use crate::streams::{Streams, StreamsSpec, blocking};
use crate::{Container, ContainerNetwork, EngineError, Health, HealthStatus, Result, Status};

/// A container in memory. What changes of it is behind locks that are held for moments only, but for `operation`.
#[derive(Debug)]
pub(crate) struct Live {
    id: String,
    record: RwLock<Arc<ContainerRecord>>,
    pub(crate) folder: ContainerFolder,
    pub(crate) log_files: Arc<LogFiles>,
    /// Held by whoever starts or removes it, or works on its files while it does not run.
    pub(crate) operation: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever makes an image of it.
    pub(crate) committing: tokio::sync::Mutex<()>,
    standing: watch::Sender<Standing>,
    /// Held while the state is written.
    writing: tokio::sync::Mutex<()>,
    streams: Mutex<Arc<Streams>>,
    run: Mutex<Option<Run>>,
    execs: Mutex<Vec<Arc<ExecProcess>>>,
    /// Where its log ends.
    pub(crate) grown: watch::Sender<u64>,
    /// The pause before its last restart.
    pub(crate) restart_pause: Mutex<Duration>,
    /// Whether it is stopped only to be started, so that one that goes with its end stays.
    pub(crate) kept: AtomicBool,
    /// How well it is, while or after it was checked.
    health: Mutex<Option<Health>>,
    events: Events,
}

/// How a container stands, for those who wait for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) record: StateRecord,
    /// How often it has ended since the engine was opened, each end written to the disk.
    pub(crate) exits: u64,
    pub(crate) removed: bool,
}

/// What a running container has.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) sandbox: Sandbox,
    /// `None` if no log is kept.
    pub(crate) log: Option<Arc<Mutex<LogWriter>>>,
}

impl Live {
    /// A container with its state as it is on the disk.
    pub(crate) fn new(
        record: ContainerRecord,
        folder: ContainerFolder,
        state: StateRecord,
        events: Events,
    ) -> Arc<Live> {
        let streams = Mutex::new(Streams::new(streams_spec(&record)));
        Arc::new(Live {
            id: record.id.clone(),
            record: RwLock::new(Arc::new(record)),
            log_files: LogFiles::new(folder.log()),
            folder,
            operation: Arc::default(),
            committing: tokio::sync::Mutex::default(),
            standing: watch::Sender::new(Standing {
                record: state,
                ..Standing::default()
            }),
            writing: tokio::sync::Mutex::default(),
            streams,
            run: Mutex::default(),
            execs: Mutex::default(),
            grown: watch::Sender::new(0),
            restart_pause: Mutex::default(),
            kept: AtomicBool::new(false),
            health: Mutex::default(),
            events,
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What it is at this moment.
    pub(crate) fn record(&self) -> Arc<ContainerRecord> {
        self.record.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it is, on the disk first.
    pub(crate) async fn change_record(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        let _writing = self.writing.lock().await;
        if self.status() == Status::Removing {
            return Err(EngineError::NoSuchContainer(self.id.clone()));
        }
        let mut record = ContainerRecord::clone(&self.record());
        change(&mut record);
        let (folder, durable) = (self.folder.clone(), self.is_durable());
        let record = Arc::new(record);
        let written = record.clone();
        blocking("write a container's description", move || {
            folder.write_record(&written, durable)
        })
        .await?;
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = record;
        Ok(())
    }

    /// Whether what is written about it must outlast a power cut. One that is removed with its end does not: a power
    /// cut is its end.
    pub(crate) fn is_durable(&self) -> bool {
        !self.record().config.auto_remove
    }

    /// Tells what happens to it, with more about it than what is told always.
    pub(crate) fn tell<'a>(
        &self,
        action: impl Into<String>,
        more: impl IntoIterator<Item = (&'a str, String)>,
    ) {
        let record = self.record();
        if record.config.of_build {
            return;
        }
        let mut attributes: BTreeMap<String, String> = record.config.labels.clone();
        attributes.insert("image".into(), record.config.image.clone());
        attributes.insert("name".into(), record.name.clone());
        attributes.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self.events
            .publish(EventKind::Container, action, &self.id, attributes);
    }

    pub(crate) fn status(&self) -> Status {
        self.standing.borrow().record.state.status
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.status(), Status::Running | Status::Paused)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(change);
    }

    /// Writes the state as it is now.
    pub(crate) async fn save(&self) -> Result<()> {
        let _writing = self.writing.lock().await;
        let record = self.standing.borrow().record.clone();
        self.write(record).await
    }

    /// Writes the state after an end, then tells it. Whoever waits for the end may start or remove it at once.
    pub(crate) async fn save_end(&self, record: StateRecord) {
        let _writing = self.writing.lock().await;
        // One that goes with its end needs no word about it.
        if self.is_durable()
            && let Err(error) = self.write(record.clone()).await
        {
            tracing::warn!(container = self.id(), %error, "the end of a container is not written down");
        }
        self.change(|standing| {
            // One that was made while the run ended is yet to be given back.
            let endpoints = std::mem::take(&mut standing.record.endpoints);
            standing.record = StateRecord { endpoints, ..record };
            standing.exits += 1;
        });
    }

    /// For a caller that holds `writing`.
    async fn write(&self, record: StateRecord) -> Result<()> {
        if self.status() == Status::Removing {
            return Ok(());
        }
        let (folder, durable) = (self.folder.clone(), self.is_durable());
        if !durable {
            // Into the page cache: a thread would cost more.
            return folder.write_state(&record, false);
        }
        blocking("write a container's state", move || {
            folder.write_state(&record, true)
        })
        .await
    }

    /// Waits for a state that is being written, and has no other one written.
    pub(crate) async fn stop_saving(&self) {
        self.change(|standing| standing.record.state.status = Status::Removing);
        drop(self.writing.lock().await);
    }

    /// Waits until it does not run.
    pub(crate) async fn down(&self) {
        let down = |standing: &Standing| {
            standing.removed || !matches!(standing.record.state.status, Status::Running | Status::Paused)
        };
        // The sender is in `self`.
        let _ = self.watch().wait_for(down).await;
    }

    /// The streams of its current run, or its next one.
    pub(crate) fn streams(&self) -> Arc<Streams> {
        lock(&self.streams).clone()
    }

    /// Ends the clients of the run that is over; those who come now are for the next.
    pub(crate) fn renew_streams(&self) {
        let fresh = Streams::new(streams_spec(&self.record()));
        std::mem::replace(&mut *lock(&self.streams), fresh).close();
    }

    pub(crate) fn run(&self) -> Option<Run> {
        lock(&self.run).clone()
    }

    pub(crate) fn set_run(&self, run: Option<Run>) {
        *lock(&self.run) = run;
    }

    /// What it runs in; an error if it does not run. `action` is told in it.
    pub(crate) fn running(&self, action: &str) -> Result<Run> {
        if self.status() == Status::Restarting {
            return Err(EngineError::Restarting(self.id.clone()));
        }
        self.run()
            .filter(|_| self.is_up())
            .ok_or_else(|| EngineError::NotRunning {
                action: action.to_owned(),
                id: self.id.clone(),
            })
    }

    pub(crate) fn health(&self) -> Option<Health> {
        lock(&self.health).clone()
    }

    pub(crate) fn set_health(&self, health: Option<Health>) {
        *lock(&self.health) = health;
    }

    /// Changes its health; the status when `change` says that it is another one.
    pub(crate) fn take_health(&self, change: impl FnOnce(&mut Health) -> bool) -> Option<HealthStatus> {
        let mut health = lock(&self.health);
        let health = health.as_mut()?;
        change(health).then_some(health.status)
    }

    pub(crate) fn execs(&self) -> MutexGuard<'_, Vec<Arc<ExecProcess>>> {
        lock(&self.execs)
    }

    /// What a client is told of it.
    pub(crate) fn view(&self, networks: BTreeMap<String, ContainerNetwork>) -> Container {
        let standing = self.standing.borrow().record.clone();
        let record = self.record();
        Container {
            id: record.id.clone(),
            name: record.name.clone(),
            created: record.created,
            image_id: record.image_id.clone(),
            config: record.config.clone(),
            args: record.args.clone(),
            state: standing.state,
            health: self.health(),
            mounts: record.mounts.clone(),
            log_path: match record.config.log.driver {
                LogDriver::JsonFile => self.folder.log(),
                // Its form is nobody else's matter.
                LogDriver::Local | LogDriver::None => Default::default(),
            },
            disk_path: self.folder.disk(),
            exec_ids: self.execs().iter().map(|exec| exec.id.clone()).collect(),
            vm: record.vm,
            timeline: self
                .run()
                .map_or(standing.timeline, |run| run.sandbox.clock().timeline()),
            networks,
            published: standing.published,
        }
    }

    /// The folder for the sockets of its microVM.
    pub(crate) fn runtime(&self, runtime: &Path) -> std::path::PathBuf {
        runtime.join(crate::ids::short(&self.id))
    }
}

fn streams_spec(record: &ContainerRecord) -> StreamsSpec {
    let config = &record.config;
    StreamsSpec {
        terminal: config.terminal,
        stdin: config.open_stdin,
        stdin_once: config.stdin_once,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
