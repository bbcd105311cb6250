//! The engine.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use network::HostSettings;
use sandbox::{Clock, Templates};

use crate::build::Builds;
use crate::container::Live;
use crate::disk::Disks;
use crate::events::Events;
use crate::exec_process::{self, ExecProcess};
use crate::folder::{make_folder, remove_folder};
use crate::guest_spec::INIT;
use crate::host::{Host, kernel_release};
use crate::images::Images;
use crate::list::{Looked, choose};
use crate::log::{Follow, LogDriver, LogReader};
use crate::networks::Networks;
use crate::registry::Registry;
use crate::streams::{AttachOutput, ClientSpec, Detached, History, blocking, lock};
use crate::volumes::Volumes;
use crate::*;

/// Where an engine works.
#[derive(Clone, Debug)]
pub struct EngineSpec {
    /// The state root: containers, images and volumes. It must be nobody else's.
    pub root: PathBuf,
    /// For the sockets of running microVMs; at most 70 bytes long, for a socket's path has at most 107. It must be
    /// nobody else's.
    pub runtime: PathBuf,
    /// What hull is installed with: `hull-vmm`, `vmlinux`, `initramfs.cpio`, `busybox/`.
    pub lib: PathBuf,
    /// The files that clients mean by the source of a bind mount.
    pub client_files: ClientFiles,
    /// How registries are reached.
    pub registries: RegistryConfig,
    /// What holds for all networks.
    pub networks: HostSettings,
    /// How long a build may take.
    pub build_time_limit: Option<Duration>,
    /// What the layers in the build cache may take, in bytes; `None` is any number.
    pub build_cache_bytes: Option<u64>,
}

/// Containers, execs and images. Cloning is cheap and gives the same engine.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// What all of an engine shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) spec: EngineSpec,
    pub(crate) id: String,
    pub(crate) host: Host,
    /// Where microVMs get control groups, or why they get none.
    pub(crate) cgroup: Result<PathBuf, String>,
    pub(crate) images: Images,
    pub(crate) builds: Builds,
    pub(crate) disks: Disks,
    pub(crate) registry: Registry,
    pub(crate) events: Events,
    pub(crate) templates: Templates,
    pub(crate) meters: Meters,
    pub(crate) volumes: Volumes,
    pub(crate) networks: Networks,
    guest_kernel: OnceLock<Option<String>>,
}

impl Shared {
    pub(crate) fn containers(&self) -> PathBuf {
        self.spec.root.join("containers")
    }

    /// For the sockets of microVMs, a folder for each.
    pub(crate) fn microvms(&self) -> PathBuf {
        self.spec.runtime.join("vm")
    }

    /// A container as it is now.
    pub(crate) fn view(&self, live: &Live) -> Container {
        live.view(self.networks_of(live))
    }

    /// Removes a container that does not run, for a caller that holds its operation lock.
    pub(crate) async fn remove_held(self: &Arc<Self>, live: &Arc<Live>, volumes: bool) {
        if let Err(error) = self.try_remove_held(live, volumes).await {
            tracing::error!(container = live.id(), %error, "a container stays");
        }
    }

    async fn try_remove_held(self: &Arc<Self>, live: &Arc<Live>, volumes: bool) -> Result<()> {
        live.stop_saving().await;
        let (path, durable) = (live.folder.path().to_owned(), live.is_durable());
        blocking("remove a container", move || remove_folder(&path, durable)).await?;
        self.registry.remove(live);
        if volumes {
            self.remove_volumes_of(live).await;
        }
        self.images.release(live.id());
        live.renew_streams();
        live.change(|standing| standing.removed = true);
        live.tell("destroy", []);
        tracing::debug!(container = live.id(), "a container was removed");
        Ok(())
    }

    /// The release of the kernel that microVMs boot. Its image is searched once.
    async fn guest_kernel(self: &Arc<Self>) -> Option<String> {
        let shared = self.clone();
        let found = blocking("read the guest's kernel", move || {
            let kernel = || kernel_release(&shared.spec.lib.join("vmlinux"));
            Ok(shared.guest_kernel.get_or_init(kernel).clone())
        });
        found.await.ok().flatten()
    }

    fn find_exec(&self, id: &str) -> Result<(Arc<Live>, Arc<ExecProcess>)> {
        let found = self.registry.all().into_iter().find_map(|live| {
            let exec = live.execs().iter().find(|exec| exec.id == id).cloned()?;
            Some((live, exec))
        });
        found.ok_or_else(|| EngineError::NoSuchExec(id.to_owned()))
    }
}

impl Engine {
    /// Opens the state under the root, goes on with what runs, and removes what a crash left behind.
    pub async fn open(spec: EngineSpec) -> Result<Engine> {
        let shared = blocking("open the state", move || Shared::open(spec)).await?;
        let shared = Arc::new(shared);
        restore::restore(&shared).await?;
        shared.images.hold_existing(&shared.registry.all());
        let prepared = shared.clone();
        // So that the first container need not wait for it; if it fails, that one tells why.
        tokio::task::spawn_blocking(move || prepared.disks.template().map(drop));
        Ok(Engine { shared })
    }

    /// Makes a container.
    pub async fn create(&self, create: ContainerCreate) -> Result<Created> {
        let shared = self.shared.clone();
        complete(async move { creation::create(&shared, create).await }).await
    }

    /// Starts a container; returns when its init runs.
    pub async fn start(&self, name: &str) -> Result<()> {
        let clock = Clock::start();
        let (shared, live) = (self.shared.clone(), self.find(name)?);
        complete(async move { start::start(&shared, &live, clock).await }).await
    }

    /// Asks a container to end and ends it after `timeout`, or its own. `signal` takes the place of its stop signal.
    /// Returns when it has ended; [`EngineError::NotModified`] if it does not run.
    pub async fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<StopTimeout>) -> Result<()> {
        let (live, signal) = (self.find(name)?, signal.map(str::to_owned));
        complete(async move { stop::stop(&live, signal.as_deref(), timeout).await }).await
    }

    /// Stops a container if it runs, and starts it.
    pub async fn restart(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<StopTimeout>,
    ) -> Result<()> {
        let (shared, live, signal) = (self.shared.clone(), self.find(name)?, signal.map(str::to_owned));
        complete(async move {
            live.kept.store(true, Ordering::Release);
            let stopped = stop::stop(&live, signal.as_deref(), timeout).await;
            live.kept.store(false, Ordering::Release);
            match stopped {
                Ok(()) | Err(EngineError::NotModified(_)) => {}
                Err(error) => return Err(error),
            }
            start::start(&shared, &live, Clock::start()).await?;
            live.tell("restart", []);
            Ok(())
        })
        .await
    }

    /// Sends a signal, by name or number, to a container's init; an empty one is SIGKILL. After SIGKILL it returns
    /// when the container has ended.
    pub async fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let live = self
            .find(name)
            .map_err(EngineError::within(format!("cannot kill container: {name}")))?;
        let signal = signal.to_owned();
        complete(async move { stop::kill(&live, &signal).await }).await
    }

    /// Holds a container.
    pub async fn pause(&self, name: &str) -> Result<()> {
        let live = self.find(name)?;
        complete(async move { pause::pause(&live).await }).await
    }

    /// Lets a held container go on.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        let live = self.find(name)?;
        complete(async move { pause::unpause(&live).await }).await
    }

    /// Gives a container another name.
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let (shared, live, new) = (self.shared.clone(), self.find(name)?, new.to_owned());
        complete(async move { rename::rename(&shared, &live, &new).await }).await
    }

    /// Changes what a container may use, and when it is started again.
    pub async fn update(&self, name: &str, update: ContainerUpdate) -> Result<()> {
        let (shared, live) = (self.shared.clone(), self.find(name)?);
        complete(async move { update::update(&shared, &live, update).await }).await
    }

    /// What happens from now on, and what happened since a moment in the past, as far as it is kept.
    pub fn events(&self, since: Option<jiff::Timestamp>) -> EventStream {
        self.shared.events.listen(since)
    }

    /// Begins to wait for a container. An end that comes after this returned is not missed.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiter> {
        Ok(Waiter::new(&*self.find(name)?, condition))
    }

    /// Removes a container; with `force` a running one is ended first, with `volumes` its nameless volumes go, too.
    pub async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let (shared, live) = (self.shared.clone(), self.find(name)?);
        complete(async move {
            let _operation = live.operation.lock().await;
            if live.watch().borrow().removed {
                return Err(EngineError::NoSuchContainer(live.id().to_owned()));
            }
            if live.is_up() || live.status() == Status::Restarting {
                if !force {
                    return Err(EngineError::Conflict(refuse_removal(&live)));
                }
                match stop::kill(&live, "").await {
                    // It may have ended by itself.
                    Ok(()) | Err(EngineError::NotRunning { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            shared.try_remove_held(&live, volumes).await
        })
        .await
    }

    /// The containers, the newest first.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<Container>> {
        let created = |name: &Option<String>| -> Result<_> {
            name.as_deref()
                .map(|name| Ok(self.find(name)?.record().created))
                .transpose()
        };
        let mut looked = Looked {
            before: created(&filter.before)?,
            since: created(&filter.since)?,
            images: None,
        };
        if !filter.images.is_empty() {
            let mut ids = Vec::new();
            for image in &filter.images {
                // An image that is not there has no containers.
                ids.extend(self.shared.images.resolve(image).await.ok().map(|image| image.id));
            }
            looked.images = Some(ids);
        }
        let containers = self
            .shared
            .registry
            .all()
            .iter()
            .map(|live| self.shared.view(live))
            .collect();
        Ok(choose(containers, filter, &looked))
    }

    /// One container.
    pub async fn inspect(&self, name: &str) -> Result<Container> {
        Ok(self.shared.view(&*self.find(name)?))
    }

    /// Reads a container's log.
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<LogReader> {
        let live = self.find(name)?;
        check_log(&live)?;
        let follow = (options.follow && live.is_up()).then(|| {
            let mut standing = live.watch();
            let exits = standing.borrow().exits;
            let ended = async move {
                // An error is the end of the engine.
                let _ = standing
                    .wait_for(|standing| standing.exits > exits || standing.removed)
                    .await;
            };
            Follow {
                grown: live.grown.subscribe(),
                ended: Box::pin(ended),
            }
        });
        Ok(LogReader::new(
            live.log_files.clone(),
            options,
            live.record().config.terminal,
            follow,
        ))
    }

    /// Attaches a client to a container, whether it runs already or is yet to be started. Output that comes after this
    /// returned is not missed.
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attachment> {
        let live = self.find(name)?;
        match live.status() {
            Status::Paused => {
                return Err(EngineError::Conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    live.id()
                )));
            }
            Status::Restarting => return Err(EngineError::Restarting(live.id().to_owned())),
            _ => {}
        }
        if options.logs {
            check_log(&live)?;
        }
        let client = ClientSpec {
            stdin: options.stdin && options.stream,
            stdout: options.stdout,
            stderr: options.stderr,
            detach_keys: options.detach_keys.clone(),
            detached: Detached::Container(live.clone()),
        };
        let mut attachment = live.streams().attach(&client)?;
        // Looked up after the client was added: what comes in between is in both, and told once.
        let history = options.logs.then(|| history(&live, &options));
        match (options.stream, history) {
            (true, Some(history)) => attachment.output.precede(history),
            (true, None) => {}
            (false, Some(history)) => attachment.output = AttachOutput::past(history),
            (false, None) => attachment.output = AttachOutput::nothing(),
        }
        live.tell("attach", []);
        Ok(attachment)
    }

    /// Resizes the terminal of a container.
    pub async fn resize(&self, name: &str, size: WindowSize) -> Result<()> {
        let live = self.find(name)?;
        let id = live.id().to_owned();
        let resized = live.running("")?.sandbox.guest().resize(INIT, size).await;
        resized.map_err(|source| EngineError::Sandbox {
            action: "resize the terminal of",
            id,
            source,
        })?;
        let (height, width) = (size.rows.to_string(), size.columns.to_string());
        live.tell("resize", [("height", height), ("width", width)]);
        Ok(())
    }

    /// Makes a process ready in a running container; answers its id.
    pub async fn exec_create(&self, name: &str, create: ExecCreate) -> Result<String> {
        let live = self.find(name)?;
        live.running("")?;
        if live.status() == Status::Paused {
            return Err(EngineError::Conflict(format!(
                "Container {name} is paused, unpause the container before exec"
            )));
        }
        if create.args.is_empty() {
            return Err(EngineError::Invalid("No exec command specified".into()));
        }
        let id = ids::new_id().map_err(EngineError::io("read", "random numbers"))?;
        let action = format!("exec_create: {}", create.args.join(" "));
        live.tell(action, [("execID", id.clone())]);
        exec_process::add(&live, ExecProcess::new(id.clone(), &live, create));
        Ok(id)
    }

    /// Starts an exec; `None` if it is detached.
    pub async fn exec_start(&self, id: &str, start: ExecStart) -> Result<Option<Attachment>> {
        let (live, exec) = self.shared.find_exec(id)?;
        let meters = self.shared.meters.clone();
        complete(async move {
            let started = exec.start(&live, start).await?;
            meters.executed();
            Ok(started)
        })
        .await
    }

    /// One exec.
    pub async fn exec_inspect(&self, id: &str) -> Result<Exec> {
        Ok(self.shared.find_exec(id)?.1.view())
    }

    /// Resizes the terminal of an exec.
    pub async fn exec_resize(&self, id: &str, size: WindowSize) -> Result<()> {
        let (live, exec) = self.shared.find_exec(id)?;
        exec.resize(&live, size).await
    }

    /// The whole root of a container as a tar archive, without its volumes.
    pub async fn export(&self, name: &str) -> Result<Archive> {
        let live = self.find(name)?;
        let archive = archive::export(&self.shared, &live, name).await?;
        live.tell("export", []);
        Ok(archive)
    }

    /// Makes an image of a container; the image's id.
    pub async fn commit(&self, name: &str, request: CommitRequest) -> Result<String> {
        let (shared, live) = (self.shared.clone(), self.find(name)?);
        complete(async move { images::commit(&shared, &live, request).await }).await
    }

    /// What a container has changed of its image.
    pub async fn changes(&self, name: &str) -> Result<Changes> {
        archive::changes(&self.shared, &self.find(name)?, name).await
    }

    /// What is at a path of a container. A symbolic link at its end is not followed, unless a slash stands behind it.
    pub async fn path_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        archive::stat(&self.shared, &self.find(name)?, name, path).await
    }

    /// What is at a path of a container, and a tar archive of it. Its entries are named by the last name of the path: `.`
    /// for one that ends in `/.`, nothing for the root.
    pub async fn path_archive(&self, name: &str, path: &str) -> Result<(PathStat, Archive)> {
        let live = self.find(name)?;
        let found = archive::read(&self.shared, &live, name, path).await?;
        live.tell("archive-path", [("path", path.to_owned())]);
        Ok(found)
    }

    /// Begins to unpack a tar archive in a directory of a container.
    pub async fn unpack(&self, name: &str, options: UnpackOptions) -> Result<Unpacking> {
        let (live, path) = (self.find(name)?, options.path.clone());
        let unpacking = archive::unpack(&self.shared, &live, name, options).await?;
        live.tell("extract-to-dir", [("path", path)]);
        Ok(unpacking)
    }

    /// The engine as a whole.
    pub async fn info(&self) -> Result<Info> {
        let shared = &self.shared;
        let host = shared.host.clone();
        let statuses: Vec<_> = shared.registry.all().iter().map(|live| live.status()).collect();
        let count = |status| statuses.iter().filter(|own| **own == status).count();
        let (running, paused) = (count(Status::Running), count(Status::Paused));
        Ok(Info {
            id: shared.id.clone(),
            root: shared.spec.root.clone(),
            runtime: shared.spec.runtime.clone(),
            lib: shared.spec.lib.clone(),
            running,
            paused,
            stopped: statuses.len() - running - paused,
            images: shared.images.summaries().await?.len(),
            listeners: shared.events.listeners(),
            cpus: host.cpus,
            memory_bytes: host.memory_bytes,
            host_name: host.name,
            kernel: host.kernel,
            machine: host.machine,
            operating_system: host.operating_system,
            guest_kernel: shared.guest_kernel().await,
            cgroup: shared.cgroup.clone(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Live>> {
        self.shared.registry.find(name)
    }
}

impl Shared {
    fn open(spec: EngineSpec) -> Result<Shared> {
        let root = &spec.root;
        for folder in [&root.join("containers"), &spec.runtime.join("vm")] {
            make_folder(folder)?;
        }
        let volumes = Volumes::open(root.join("volumes"))?;
        let networks = Networks::open(root.join("networks"), spec.networks.clone())?;
        let id = engine_id(root)?;
        let (events, meters) = (Events::default(), Meters::default());
        let builds = Builds::open(root)?;
        let images = Images::open(
            root,
            &spec.lib,
            spec.registries.clone(),
            events.clone(),
            meters.clone(),
        )?;
        let disks = Disks::new(root.join("disks"));
        let (templates, microvms) = (spec.runtime.join("templates"), spec.runtime.join("vm"));
        let templates = Templates::open(templates.clone(), microvms)
            .map_err(EngineError::io("open the templates in", templates))?;
        Ok(Shared {
            id,
            host: Host::look(),
            cgroup: sandbox::open_cgroup()
                .map_err(|error| error.to_string())
                .inspect_err(|error| tracing::warn!(error, "microVMs are not bounded on the host")),
            images,
            builds,
            disks,
            templates,
            meters,
            volumes,
            networks,
            registry: Registry::default(),
            events,
            guest_kernel: OnceLock::new(),
            spec,
        })
    }
}

/// Why a container that runs is not removed.
fn refuse_removal(live: &Live) -> String {
    let (name, status) = (live.record().name.clone(), live.status());
    let advice = match status {
        Status::Paused => " and must be unpaused first",
        _ => ": stop the container before removing or force remove",
    };
    let status = status.as_str();
    format!("cannot remove container \"/{name}\": container is {status}{advice}")
}

/// The id that was given to this state when it was opened first.
fn engine_id(root: &Path) -> Result<String> {
    let path = root.join("engine-id");
    if let Ok(id) = std::fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let id = ids::new_id().map_err(EngineError::io("read", "random numbers"))?;
    std::fs::write(&path, &id).map_err(EngineError::io("write", path))?;
    Ok(id)
}

/// Carries a change through, whether the client that asked for it waits or not.
pub(crate) async fn complete<T: Send + 'static>(
    change: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(change)
        .await
        .unwrap_or_else(|error| Err(EngineError::Internal(error.to_string())))
}

/// Whether there is a log to read.
fn check_log(live: &Live) -> Result<()> {
    match live.record().config.log.driver {
        LogDriver::None => Err(EngineError::Unsupported(
            "configured logging driver does not support reading".into(),
        )),
        LogDriver::JsonFile | LogDriver::Local => Ok(()),
    }
}

/// What was written before now.
fn history(live: &Live, options: &AttachOptions) -> History {
    let wanted = LogOptions {
        stdout: options.stdout,
        stderr: options.stderr,
        ..LogOptions::default()
    };
    let files = live.log_files.clone();
    let Some(log) = live.run().and_then(|run| run.log) else {
        return History {
            log: LogReader::new(files, wanted, false, None),
            begun: Vec::new(),
            upto: Default::default(),
        };
    };
    let mut writer = lock(&log);
    let mut upto = writer.logged();
    let mut begun = Vec::new();
    for (stream, wanted) in [
        (OutputStream::Stdout, options.stdout),
        (OutputStream::Stderr, options.stderr),
    ] {
        let bytes = bytes::Bytes::copy_from_slice(writer.begun(stream));
        *upto.get_mut(stream) += bytes.len() as u64;
        if wanted && !bytes.is_empty() {
            begun.push(OutputChunk { stream, bytes });
        }
    }
    History {
        log: LogReader::until(files, wanted, writer.length()),
        begun,
        upto,
    }
}
