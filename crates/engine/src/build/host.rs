//! The engine as the builder sees it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use ::registry::Credentials;
use ::sandbox::ExitStatus;
use builder::{Command, Ended, HeldImage, Host, HostError, Platform, Reporter};
use tokio::task::JoinHandle;

use super::command_mounts::Caches;
use super::ssh::Lent;
use super::stage_vm::{StageVm, lost};
use crate::engine::Shared;
use crate::images::{ImageEvent, PullRequest, pipe, remote};
use crate::streams::blocking;
use crate::{EngineError, ErrorKind, Resources, Result, Rlimit, TransferEvents, limits};

/// What commands of a build may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildLimits {
    /// Memory and CPUs.
    pub resources: Resources,
    /// Size of `/dev/shm` in bytes; 0 is 64 MiB.
    pub shm_bytes: u64,
    /// Resource limits of processes.
    pub rlimits: Vec<Rlimit>,
    /// Further lines of `/etc/hosts`, `name:address` each.
    pub extra_hosts: Vec<String>,
    /// Which CPUs they may use.
    pub cpuset_cpus: String,
}

/// The engine, for one build.
pub(super) struct BuildHost {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: BuildLimits,
    /// For registries, by their hosts.
    pub(super) credentials: HashMap<String, Credentials>,
    /// What the client calls itself when it lends SSH agents.
    pub(super) session: String,
}

impl BuildHost {
    /// An image that is here, for a platform if one is asked for.
    async fn held(&self, name: &str, platform: Option<&Platform>) -> Result<HeldImage> {
        let (image, hold) = self.shared.images.resolve_and_hold(name).await?;
        if let Some(platform) = platform {
            let wanted = remote::platform(Some(&platform.to_string()))?;
            remote::check_platform(name, &image.config, &wanted)?;
        }
        Ok(HeldImage { image, hold })
    }

    async fn pull(&self, name: &str, platform: Option<&Platform>, reporter: &Reporter) -> Result<()> {
        let host = crate::images::RemoteImage::parse(name)?.host;
        let request = PullRequest {
            name: name.to_owned(),
            platform: platform.map(Platform::to_string),
            credentials: self.credentials.get(&host).cloned().unwrap_or_default(),
        };
        let mut events = TransferEvents(self.shared.images.pull(&request).await?);
        loop {
            match events.next().await {
                Ok(happened) => {
                    for event in happened {
                        if let ImageEvent::Line { about, text } = event {
                            let about = if about.is_empty() {
                                about
                            } else {
                                format!("{about}: ")
                            };
                            reporter.tell_line(format!("{about}{text}\n"));
                        }
                    }
                }
                Err(end) => return Ok(end?),
            }
        }
    }
}

/// The microVM of a stage, between two of its commands or on its way down.
#[derive(Default)]
pub(super) struct Stage {
    waiting: Option<StageVm>,
    ending: Vec<JoinHandle<()>>,
}

impl Stage {
    fn end(&mut self, vm: StageVm) {
        self.ending.extend(vm.end());
    }
}

impl BuildHost {
    /// Starts a command: in the microVM of those before it, if it can be had there.
    async fn start(&self, stage: &mut Stage, command: Command, caches: Caches) -> Result<StageVm> {
        if let Some(mut vm) = stage.waiting.take_if(|vm| vm.suits(&command)) {
            match vm.next(&command).await {
                Ok(()) => return Ok(vm),
                // The program's own failure is that in any microVM.
                Err(error @ EngineError::Start(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a microVM cannot be used for another command of a build: a new one is");
                    stage.end(vm);
                }
            }
        }
        if let Some(vm) = stage.waiting.take() {
            stage.end(vm);
        }
        StageVm::start(&self.shared, self.resources(), &self.limits, command, caches).await
    }

    /// What a command may use.
    fn resources(&self) -> Resources {
        let mut resources = self.limits.resources;
        if resources.memory_bytes == 0 {
            resources.memory_bytes = limits::build_memory(&self.shared.host);
        }
        resources
    }
}

impl Host for BuildHost {
    type Stage = Stage;

    async fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: bool,
        reporter: &Reporter,
    ) -> Result<HeldImage, HostError> {
        if !pull {
            match self.held(name, platform).await {
                Err(EngineError::NoSuchImage(_)) => {}
                Err(EngineError::Image(error)) if error.kind == ErrorKind::NotFound => {
                    reporter.tell_line(format!("{error}; its registry is asked for one\n"));
                }
                found => return found.map_err(HostError::of),
            }
        }
        self.pull(name, platform, reporter).await.map_err(HostError::of)?;
        self.held(name, platform).await.map_err(HostError::of)
    }

    fn key(&self) -> String {
        let BuildLimits {
            shm_bytes,
            rlimits,
            extra_hosts,
            cpuset_cpus,
            // How much memory and time there is changes what a command can do, not what it does.
            resources: _,
        } = &self.limits;
        format!("{shm_bytes} {rlimits:?} {extra_hosts:?} {cpuset_cpus}")
    }

    async fn find(&self, id: &str) -> Result<Option<HeldImage>, HostError> {
        match self.held(id, None).await {
            Ok(held) => Ok(Some(held)),
            Err(EngineError::NoSuchImage(_) | EngineError::Conflict(_)) => Ok(None),
            Err(error) => Err(HostError::of(error)),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        stage: &mut Stage,
        command: Command,
        reporter: &Reporter,
        keep: impl FnOnce(Box<dyn Read + Send>) -> T + Send + 'static,
    ) -> Result<Ended<T>, HostError> {
        // Who waits for a cache keeps nobody else from working.
        let caches = Caches::take(&self.shared, &command.mounts).await;
        let caches = caches.map_err(HostError::of)?;
        // More at once than the host has processors for would only be slower.
        let _turn = self.shared.builds.turns.acquire().await.map_err(HostError::of)?;
        let (has_next, agents) = (command.has_next, command.agents.clone());
        let started = self.start(stage, command, caches).await;
        let mut vm = started.map_err(HostError::of)?;
        let lent = Lent::lend(&self.shared, vm.sandbox(), &self.session, agents, reporter);
        let ExitStatus { code, oom_killed } = vm.run(reporter).await.map_err(HostError::of)?;
        if oom_killed {
            let mib = self.resources().memory_bytes >> 20;
            let text = format!(
                "the kernel has killed a process: the command may use {mib} MiB of memory; --memory gives it more\n"
            );
            reporter.tell_line(text);
        }
        if code != 0 {
            // The build ends with it: nothing is to be left then.
            if let Some(ending) = vm.end() {
                let _ = ending.await;
            }
            return Ok(Ended::Failed(code));
        }
        lent.take_back()
            .await
            .map_err(lost("take an SSH agent back from"))
            .map_err(HostError::of)?;
        let (writer, reader) = pipe();
        let kept = blocking("keep what a command changed", move || Ok(keep(Box::new(reader))));
        let sent = async {
            vm.send_changes(writer).await?;
            // The layer is made meanwhile.
            if has_next && vm.wait() {
                stage.waiting = Some(vm);
            } else {
                stage.end(vm);
            }
            Ok(())
        };
        let (kept, ()) = tokio::try_join!(kept, sent).map_err(HostError::of)?;
        Ok(Ended::Done(kept))
    }

    async fn end(&self, mut stage: Stage) {
        if let Some(vm) = stage.waiting.take() {
            stage.end(vm);
        }
        for ending in stage.ending {
            let _ = ending.await;
        }
    }
}
