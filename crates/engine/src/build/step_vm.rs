//! The microVM of a RUN: that of a container which nobody sees, and which is gone with its command.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use builder::{Command, CommandMount, Event, Reporter};
use bytes::{Bytes, BytesMut};
use sandbox::{
    Clock, FOLDERS_TAG, File, FolderSpec, Mount, MountSource, OutputStream, Sandbox, StreamKind, Task,
    TmpfsFlags,
};
use tokio::sync::OwnedMutexGuard;

use super::caches::CacheFolder;
use super::host::BuildLimits;
use crate::boot::Boot;
use crate::container::Live;
use crate::creation;
use crate::engine::Shared;
use crate::exec_process::next_process;
use crate::guest_spec::{GuestSpec, INIT, guest_spec};
use crate::images::PipeWriter;
use crate::start::{refusal, sandbox_spec};
use crate::{ContainerCreate, EngineError, Result, networks};

/// How long output may take to arrive after the end of who wrote it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The output of one command that is told, in bytes.
const MOST_OUTPUT: u64 = 16 << 20;

/// A microVM whose command runs, or has ended. When it is dropped it is taken down, which needs nobody to wait for it.
pub(super) struct StepVm {
    /// `None` once it is taken down.
    held: Option<Held>,
    sandbox: Sandbox,
}

struct Held {
    shared: Arc<Shared>,
    live: Arc<Live>,
    /// Once there is one.
    sandbox: Option<Sandbox>,
    /// Until nothing of it is there any more.
    _operation: OwnedMutexGuard<()>,
    _caches: Vec<CacheFolder>,
}

impl StepVm {
    /// Brings it up, with its command started. If this is dropped meanwhile it is taken down as soon as it is up.
    pub(super) async fn start(shared: &Arc<Shared>, limits: &BuildLimits, command: Command) -> Result<Self> {
        let caches = take_caches(shared, &command.mounts).await?;
        let (shared, limits) = (shared.clone(), limits.clone());
        let tasks = shared.builds.tasks.clone();
        let started = tasks.spawn(async move {
            let live = creation::create_unseen(&shared, container(&limits, &command)).await?;
            let operation = live.operation.clone().lock_owned().await;
            let mut held = Held {
                shared,
                live,
                sandbox: None,
                _operation: operation,
                _caches: caches.0,
            };
            match bring_up(&mut held, command, &caches.1).await {
                Ok(sandbox) => Ok(Self {
                    held: Some(held),
                    sandbox,
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

    /// Waits for the end of the command and tells what it prints; its exit code.
    pub(super) async fn run(&mut self, reporter: &Reporter) -> Result<i32> {
        let lost = |source| EngineError::Sandbox {
            action: "run a command in",
            id: "a build".into(),
            source,
        };
        let (stdout, stderr) = tokio::try_join!(
            self.sandbox.output(INIT, StreamKind::Stdout, 0),
            self.sandbox.output(INIT, StreamKind::Stderr, 0)
        )
        .map_err(lost)?;
        let printed = async {
            tokio::join!(carry(stdout, false, reporter), carry(stderr, true, reporter));
        };
        let exited = self.sandbox.guest().exited(INIT);
        tokio::pin!(printed, exited);
        let status = tokio::select! {
            status = &mut exited => {
                // What it printed last is on its way, unless somebody whom it has left behind holds the streams open.
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, printed).await;
                status
            }
            () = &mut printed => exited.await,
        };
        let status = status.map_err(lost)?;
        Ok(status.code)
    }

    /// Sends what the command changed as a layer.
    pub(super) async fn send_changes(&mut self, writer: PipeWriter) -> Result<()> {
        let lost = |source| EngineError::Sandbox {
            action: "read what a command changed in",
            id: "a build".into(),
            source,
        };
        let mut task = self
            .sandbox
            .start_task(next_process(), Task::Layer)
            .await
            .map_err(lost)?;
        while let Some(piece) = task.read().await.map_err(lost)? {
            if writer.write(piece.freeze()).await.is_err() {
                // The store says why.
                return Ok(());
            }
        }
        task.end().await.map_err(lost)?;
        writer.finish().await;
        Ok(())
    }

    /// Takes it down.
    pub(super) async fn end(mut self) {
        if let Some(held) = self.held.take() {
            // Whoever waits for it may be gone before it is.
            let tasks = held.shared.builds.tasks.clone();
            let _ = tasks.spawn(held.take_down()).await;
        }
    }
}

impl Drop for StepVm {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let tasks = held.shared.builds.tasks.clone();
            tasks.spawn(held.take_down());
        }
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

/// Brings the microVM up and starts the command.
async fn bring_up(held: &mut Held, command: Command, folders: &HashMap<String, usize>) -> Result<Sandbox> {
    let (shared, live) = (held.shared.clone(), held.live.clone());
    let attached = networks::attach(&shared, &live).await?;
    let mut spec = guest_spec(&live.record(), &shared.spec.client_files, Vec::new(), attached)?;
    add_mounts(&mut spec, &command.mounts, &held._caches, folders);
    // Secrets are on no disk: the container's record does not know them.
    spec.init.env.extend(command.secret_variables.0);
    spec.container
        .files
        .extend(command.files.into_iter().map(|file| File {
            target: file.target,
            mode: file.mode,
            content: file.content,
        }));
    let clock = Clock::start();
    let mut boot = Boot::new(
        &shared.templates,
        sandbox_spec(&shared, &live, &spec),
        clock.clone(),
    );
    let failed = |source| EngineError::Sandbox {
        action: "start",
        id: "a build".into(),
        source,
    };
    loop {
        let sandbox = match Sandbox::start(&boot.spec(), clock.clone()).map_err(failed) {
            Err(error) if boot.goes_on_after(&error) => continue,
            started => started?,
        };
        held.sandbox = Some(sandbox.clone());
        match start_command(&sandbox, &spec).await {
            Ok(()) => {
                boot.succeeded();
                return Ok(sandbox);
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

async fn start_command(sandbox: &Sandbox, spec: &GuestSpec) -> Result<()> {
    let guest = sandbox.guest();
    let created = guest.create_container(spec.container.clone());
    let started = guest.start_process(spec.init.clone());
    let command = spec.init.args.first().cloned().unwrap_or_default();
    let failed = |error| match error {
        sandbox::SandboxError::Guest(error) => EngineError::Start(refusal(&command, &error)),
        source => EngineError::Sandbox {
            action: "start",
            id: "a build".into(),
            source,
        },
    };
    networks::plug_meanwhile(sandbox, &spec.cables, created)
        .await
        .map_err(failed)?;
    started.await.map_err(failed)?;
    Ok(())
}

/// Tells what a stream brings, and reads it all.
async fn carry(mut stream: OutputStream, is_error: bool, reporter: &Reporter) {
    let (mut offset, mut buffer) = (0u64, BytesMut::new());
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                let bytes = buffer.freeze();
                if !bytes.is_empty() && offset < MOST_OUTPUT {
                    reporter.tell(Event::Output { bytes, is_error });
                }
                return;
            }
            Ok(count) => {
                let was_told = offset < MOST_OUTPUT;
                offset = offset.saturating_add(count as u64);
                let bytes = whole(&mut buffer);
                if bytes.is_empty() {
                    continue;
                }
                if offset < MOST_OUTPUT {
                    reporter.tell(Event::Output { bytes, is_error });
                } else if was_told {
                    let text = format!("[output clipped, {} MiB reached]\n", MOST_OUTPUT >> 20);
                    reporter.tell_line(text);
                }
                // A failure is the end of the microVM, which the next read tells.
                let _ = stream.acknowledge(offset).await;
            }
        }
    }
}

/// Takes what ends with a whole character: the rest of one that is cut comes with the next piece.
fn whole(buffer: &mut BytesMut) -> Bytes {
    let end = match std::str::from_utf8(buffer) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => buffer.len(),
    };
    buffer.split_to(end).freeze()
}

/// The container that the command runs in.
fn container(limits: &BuildLimits, command: &Command) -> ContainerCreate {
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
        resources: limits.resources,
        shm_bytes: limits.shm_bytes,
        rlimits: limits.rlimits.clone(),
        extra_hosts: limits.extra_hosts.clone(),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        ..ContainerCreate::default()
    }
}

/// Takes the caches of a command, each once, in one order for all commands: so nobody waits for somebody who waits for him. Which
/// of the folders is whose tells the map.
async fn take_caches(
    shared: &Arc<Shared>,
    mounts: &[CommandMount],
) -> Result<(Vec<CacheFolder>, HashMap<String, usize>)> {
    let mut wanted = BTreeMap::new();
    for mount in mounts {
        if let CommandMount::Cache {
            id,
            sharing,
            mode,
            owner,
            ..
        } = mount
        {
            wanted.entry(id).or_insert((*sharing, *mode, *owner));
        }
    }
    let (mut folders, mut places) = (Vec::new(), HashMap::new());
    for (id, (sharing, mode, owner)) in wanted {
        places.insert(id.clone(), folders.len());
        folders.push(shared.builds.caches.take(id, sharing, mode, owner).await?);
    }
    Ok((folders, places))
}

fn add_mounts(
    spec: &mut GuestSpec,
    mounts: &[CommandMount],
    folders: &[CacheFolder],
    places: &HashMap<String, usize>,
) {
    for (number, mount) in mounts.iter().enumerate() {
        let (target, source, read_only) = match mount {
            CommandMount::Cache {
                id,
                target,
                read_only,
                ..
            } => {
                let Some(folder) = places.get(id).and_then(|place| folders.get(*place)) else {
                    continue;
                };
                let name = format!("c{number}");
                spec.folders.push(FolderSpec {
                    name: name.clone(),
                    path: folder.path.clone(),
                    beneath: PathBuf::new(),
                    recursive: false,
                    read_only: *read_only,
                });
                let source = MountSource::Shared {
                    tag: FOLDERS_TAG.into(),
                    path: name,
                };
                (target, source, *read_only)
            }
            CommandMount::Tmpfs { target, size } => {
                let source = MountSource::Tmpfs {
                    options: size.map(|size| format!("size={size}")).unwrap_or_default(),
                    flags: TmpfsFlags {
                        no_exec: false,
                        no_suid: true,
                        no_dev: true,
                    },
                };
                (target, source, false)
            }
        };
        spec.container.mounts.push(Mount {
            target: target.clone(),
            source,
            read_only,
        });
    }
}
