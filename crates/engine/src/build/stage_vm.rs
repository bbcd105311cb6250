//! The microVM of a stage: that of a container which nobody sees. It runs the commands of RUN one after the other, each on the layers
//! that there are by then, and is gone with the last one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::sandbox::{
    Clock, ContainerSpec, ExitStatus, File, ProcessId, ProcessSpec, Rootfs, Sandbox, SandboxError, Socket,
    StreamKind, Task, layer_name,
};
use builder::{Command, CommandMount, Reporter};
use image_store::{Image, Layer};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::task::JoinHandle;

use super::caches::CacheFolder;
use super::command_mounts::{Caches, add_mounts};
use super::host::BuildLimits;
use super::output::carry;
use crate::archive::unless_silent;
use crate::boot::Boot;
use crate::container::Live;
use crate::creation;
use crate::engine::Shared;
use crate::exec_process::next_process;
use crate::folder::ContainerRecord;
use crate::guest_spec::{self, GuestSpec, guest_spec};
use crate::images::PipeWriter;
use crate::start::{refusal, sandbox_spec};
use crate::{ContainerCreate, EngineError, Resources, Result, merge, networks};

/// How long output may take to arrive after the end of who wrote it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A microVM whose command runs, or has ended. When it is dropped it is taken down, which needs nobody to wait for it.
pub(super) struct StageVm {
    /// `None` once it is taken down.
    held: Option<Held>,
    sandbox: Sandbox,
    /// The container as every command has it.
    container: ContainerSpec,
    /// The names of the layers that the microVM was shown, by their digests.
    layers: HashMap<String, String>,
    /// The command's process.
    process: ProcessId,
    /// Whether it has a network.
    network: bool,
    /// Whether another command may come after the one that it has.
    is_lasting: bool,
    /// Between two commands.
    rest: Option<Rest>,
}

/// Until the next command.
struct Rest {
    /// The end of what the last one has left.
    cleared: JoinHandle<std::result::Result<(), SandboxError>>,
    /// The right to wait for it.
    _place: OwnedSemaphorePermit,
}

struct Held {
    shared: Arc<Shared>,
    live: Arc<Live>,
    /// Once there is one.
    sandbox: Option<Sandbox>,
    /// Until nothing of it is there any more.
    _operation: OwnedMutexGuard<()>,
    caches: Vec<CacheFolder>,
}

impl StageVm {
    /// Brings it up, with a command started. If this is dropped meanwhile it is taken down as soon as it is up.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        resources: Resources,
        limits: &BuildLimits,
        command: Command,
        Caches { folders, places }: Caches,
    ) -> Result<Self> {
        let create = container(resources, limits, &command);
        let shared = shared.clone();
        let tasks = shared.builds.tasks.clone();
        let started = tasks.spawn(async move {
            let live = creation::create_unseen(&shared, create).await?;
            let operation = live.operation.clone().lock_owned().await;
            let mut held = Held {
                shared,
                live,
                sandbox: None,
                _operation: operation,
                caches: folders,
            };
            match bring_up(&mut held, &command, &places).await {
                Ok((sandbox, container)) => Ok(Self {
                    layers: shown(&command.image, &container),
                    held: Some(held),
                    sandbox,
                    container,
                    process: guest_spec::INIT,
                    network: command.network,
                    // Its devices are those of the microVM, and folders cannot be added to it.
                    is_lasting: is_plain(&command) && !command.image.layers.is_empty(),
                    rest: None,
                }),
                Err(error) => {
                    held.take_down().await;
                    Err(error)
                }
            }
        });
        started
            .await
            .unwrap_or_else(|error| Err(EngineError::Internal(error.to_string())))
    }

    /// Whether the next command may have it.
    pub(super) fn suits(&self, command: &Command) -> bool {
        is_plain(command) && self.network == command.network
    }

    /// Starts the next command in it. After an error it is of no use.
    pub(super) async fn next(&mut self, command: &Command) -> Result<()> {
        let Some(held) = &self.held else {
            return Err(EngineError::Internal("a microVM is taken down".into()));
        };
        if let Some(rest) = self.rest.take() {
            let cleared = rest.cleared.await;
            let cleared = cleared.map_err(|error| EngineError::Internal(error.to_string()))?;
            cleared.map_err(lost("clear"))?;
        }
        // Held until the VMM has its files.
        let (image, _hold) = held.shared.images.resolve_and_hold(&command.image.id).await?;
        let new = new_layers(&mut self.layers, &image.layers);
        self.sandbox
            .add_layers(&new)
            .await
            .map_err(lost("add layers to"))?;
        let mut container = ContainerSpec {
            rootfs: Rootfs {
                layers: names(&self.layers, &image.layers),
                ..self.container.rootfs.clone()
            },
            working_dir: command.working_directory.clone(),
            ..self.container.clone()
        };
        add_mounts(
            &mut container,
            &mut Vec::new(),
            &command.mounts,
            &[],
            &HashMap::new(),
        );
        furnish(&mut container, command);
        let mut record = ContainerRecord::clone(&held.live.record());
        record.config.env = merge::environment(&[], &command.environment);
        record.config.user = command.user.clone();
        record.config.working_dir = command.working_directory.clone();
        record.args = command.arguments.clone();
        self.process = next_process();
        let mut process = ProcessSpec {
            id: self.process,
            ..guest_spec::init(&record)?
        };
        process.env.extend(command.secret_variables.0.iter().cloned());
        let guest = self.sandbox.guest();
        let created = guest.create_container(container);
        let started = guest.start_process(process);
        created.await.map_err(lost("start a command in"))?;
        started.await.map_err(not_started(command))?;
        Ok(())
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Waits for the end of the command and tells what it prints; its exit code.
    pub(super) async fn run(&mut self, reporter: &Reporter) -> Result<ExitStatus> {
        let lost = lost("run a command in");
        let (stdout, stderr) = tokio::try_join!(
            self.sandbox.output(self.process, StreamKind::Stdout, 0),
            self.sandbox.output(self.process, StreamKind::Stderr, 0)
        )
        .map_err(&lost)?;
        let printed = async {
            tokio::join!(carry(stdout, false, reporter), carry(stderr, true, reporter));
        };
        let exited = self.sandbox.guest().exited(self.process);
        tokio::pin!(printed, exited);
        let status = tokio::select! {
            status = &mut exited => {
                // What it printed last is on its way, unless somebody whom it has left behind holds the streams open.
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, printed).await;
                status
            }
            () = &mut printed => exited.await,
        };
        status.map_err(&lost)
    }

    /// Sends what the command changed as a layer.
    pub(super) async fn send_changes(&mut self, writer: PipeWriter) -> Result<()> {
        let lost = lost("read what a command changed in");
        let started = self.sandbox.start_task(next_process(), Task::Layer);
        let mut task = unless_silent(started).await.map_err(&lost)?;
        while let Some(piece) = unless_silent(task.read()).await.map_err(&lost)? {
            if writer.write(piece.freeze()).await.is_err() {
                // The store says why.
                return Ok(());
            }
        }
        unless_silent(task.end()).await.map_err(&lost)?;
        writer.finish().await;
        Ok(())
    }

    /// Has it wait for the next command of its stage, while what the last one has left is cleared away. `false` if it cannot.
    pub(super) fn wait(&mut self) -> bool {
        let Some(held) = self.held.as_ref().filter(|_| self.is_lasting) else {
            return false;
        };
        let Ok(place) = held.shared.builds.waiting.clone().try_acquire_owned() else {
            return false;
        };
        self.rest = Some(Rest {
            cleared: tokio::spawn(self.sandbox.guest().remove_container()),
            _place: place,
        });
        true
    }

    /// Takes it down; who wants to wait for it can.
    pub(super) fn end(mut self) -> Option<JoinHandle<()>> {
        self.take_down()
    }

    fn take_down(&mut self) -> Option<JoinHandle<()>> {
        let held = self.held.take()?;
        let tasks = held.shared.builds.tasks.clone();
        Some(tasks.spawn(held.take_down()))
    }
}

impl Drop for StageVm {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl Held {
    async fn take_down(self) {
        if let Some(sandbox) = &self.sandbox {
            sandbox.stop().await;
        }
        networks::detach(&self.shared, &self.live).await;
        self.shared.remove_held(&self.live, true).await;
    }
}

/// Brings the microVM up and starts the command; also the container as every command has it.
async fn bring_up(
    held: &mut Held,
    command: &Command,
    places: &HashMap<String, usize>,
) -> Result<(Sandbox, ContainerSpec)> {
    let (shared, live) = (held.shared.clone(), held.live.clone());
    let attached = networks::attach(&shared, &live).await?;
    let mut spec = guest_spec(&live.record(), &shared.spec.client_files, Vec::new(), attached)?;
    let bare = spec.container.clone();
    add_mounts(
        &mut spec.container,
        &mut spec.folders,
        &command.mounts,
        &held.caches,
        places,
    );
    furnish(&mut spec.container, command);
    // Secrets are on no disk: the container's record does not know them.
    spec.init.env.extend(command.secret_variables.0.iter().cloned());
    let clock = Clock::start();
    let mut boot = Boot::new(
        &shared.templates,
        sandbox_spec(&shared, &live, &spec),
        clock.clone(),
    );
    loop {
        let sandbox = match Sandbox::start(&boot.spec(), clock.clone()).map_err(lost("start")) {
            Err(error) if boot.goes_on_after(&error) => continue,
            started => started?,
        };
        held.sandbox = Some(sandbox.clone());
        match start_command(&sandbox, &spec, command).await {
            Ok(()) => {
                boot.succeeded();
                return Ok((sandbox, bare));
            }
            Err(error) => {
                sandbox.stop().await;
                if !boot.goes_on_after(&error) {
                    return Err(error);
                }
            }
        }
    }
}

async fn start_command(sandbox: &Sandbox, spec: &GuestSpec, command: &Command) -> Result<()> {
    let guest = sandbox.guest();
    let created = guest.create_container(spec.container.clone());
    let started = guest.start_process(spec.init.clone());
    networks::plug_meanwhile(sandbox, &spec.cables, created)
        .await
        .map_err(not_started(command))?;
    started.await.map_err(not_started(command))?;
    Ok(())
}

/// What is told when the program of a command cannot be started, or its microVM cannot.
fn not_started(command: &Command) -> impl Fn(SandboxError) -> EngineError {
    let program = command.arguments.first().cloned().unwrap_or_default();
    move |error| match error {
        SandboxError::Guest(error) => EngineError::Start(refusal(&program, &error)),
        other => lost("start")(other),
    }
}

pub(super) fn lost(action: &'static str) -> impl Fn(SandboxError) -> EngineError {
    move |source| EngineError::Sandbox {
        action,
        id: "a build".into(),
        source,
    }
}

/// Whether a command needs nothing that a microVM has from its start on.
fn is_plain(command: &Command) -> bool {
    let is_cache = |mount: &CommandMount| matches!(mount, CommandMount::Cache { .. });
    !command.privileged && !command.mounts.iter().any(is_cache)
}

/// The names of an image's layers in a microVM that was started with them.
fn shown(image: &Image, container: &ContainerSpec) -> HashMap<String, String> {
    let digests = image.layers.iter().map(|layer| layer.diff_id.clone());
    digests.zip(container.rootfs.layers.iter().cloned()).collect()
}

/// Names the layers that the microVM has not been shown yet; which those are.
fn new_layers(known: &mut HashMap<String, String>, layers: &[Layer]) -> Vec<(String, PathBuf)> {
    let mut new = Vec::new();
    for layer in layers {
        if !known.contains_key(&layer.diff_id) {
            let name = layer_name(known.len());
            known.insert(layer.diff_id.clone(), name.clone());
            new.push((name, layer.path.clone()));
        }
    }
    new
}

/// What an image's layers are called there.
fn names(known: &HashMap<String, String>, layers: &[Layer]) -> Vec<String> {
    let names = layers.iter().filter_map(|layer| known.get(&layer.diff_id));
    names.cloned().collect()
}

/// Adds what only this command has, but its mounts.
fn furnish(container: &mut ContainerSpec, command: &Command) {
    let files = command.files.iter().map(|file| File {
        target: file.target.clone(),
        mode: file.mode,
        uid: file.owner.0,
        gid: file.owner.1,
        content: file.content.clone(),
    });
    container.files.extend(files);
    let sockets = command.agents.iter().map(|agent| Socket {
        target: agent.target.clone(),
        mode: agent.mode,
        uid: agent.owner.0,
        gid: agent.owner.1,
    });
    container.sockets.extend(sockets);
    container
        .read_only_paths
        .extend(command.read_only.iter().cloned());
}

/// The container that the command runs in.
fn container(resources: Resources, limits: &BuildLimits, command: &Command) -> ContainerCreate {
    ContainerCreate {
        image: command.image.id.clone(),
        entrypoint: Some(Vec::new()),
        command: Some(command.arguments.clone()),
        env: command.environment.clone(),
        user: command.user.clone(),
        working_dir: command.working_directory.clone(),
        privileged: command.privileged,
        no_network: !command.network,
        network: if command.network {
            String::new()
        } else {
            "none".into()
        },
        auto_remove: true,
        of_build: true,
        resources,
        shm_bytes: limits.shm_bytes,
        rlimits: limits.rlimits.clone(),
        extra_hosts: limits.extra_hosts.clone(),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        ..ContainerCreate::default()
    }
}
