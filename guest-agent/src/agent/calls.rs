//! What the host asks for, and what it is answered.

use std::fmt::Display;
use std::os::fd::AsFd;

use guest_protocol::{
    Call, CallError, ContainerSpec, Devices, ErrorKind, File, Message, ProcessId, ProcessSpec, Reply,
    Request, Task,
};
use rustix::io::Errno;

use super::Agent;
use super::starting::Starting;
use crate::container::Container;
use crate::launch::{Launched, Place, launch, launch_task};
use crate::network::{Network, NetworkError};
use crate::process::{self, Process};
use crate::rootfs::UPPER;
use crate::{archive, clock, restored, usage};

/// Processes that the host has not forgotten.
const MAX_PROCESSES: usize = 1024;

impl Agent {
    pub(super) fn serve_request(&mut self, Request { id, call }: Request) {
        let result = match call {
            Call::Restored(restored) => {
                restored::make_own(&restored);
                Ok(Reply::Done)
            }
            Call::CreateContainer(spec) => self.create_container(*spec),
            Call::RemoveContainer => self.remove_container(),
            Call::StartProcess(spec) => match self.start_process(id, &spec) {
                // Answered when its report comes.
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Call::StartTask { id: process, task } => match self.start_task(id, process, &task) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Call::Signal { process, signal } => {
                self.with_running(process, |process| process.signal(signal), "signal")
            }
            Call::Resize { process, size } => {
                self.with_running(process, |process| process.resize(size), "resize the terminal of")
            }
            Call::State => Ok(Reply::State(
                self.processes.values().map(Process::state).collect(),
            )),
            Call::Forget { process } => self.forget(process),
            Call::Sync => self.sync(),
            Call::Freeze(hold) => answer(self.cgroup.freeze(hold), Reply::Frozen),
            Call::Limit(limits) => answer(self.cgroup.limit(&limits), |()| Reply::Done),
            Call::Time(now) => answer(clock::follow(now), |()| Reply::Done),
            Call::AddInterface(interface) => self.with_network(|network| network.add(&interface)),
            Call::RemoveInterface { nic } => self.with_network(|network| network.remove(nic)),
            Call::SetGateways(gateways) => self.with_network(|network| network.set_gateways(&gateways)),
            Call::WriteFiles(files) => self.write_files(&files),
            Call::Usage => answer(usage::read(self.cgroup.as_fd(), self.network.names()), |usage| {
                Reply::Usage(Box::new(usage))
            }),
        };
        self.respond(id, self.generation, result);
    }

    pub(super) fn respond(&mut self, id: u64, generation: u64, result: Result<Reply, CallError>) {
        if generation == self.generation {
            self.with_control(|control| control.send(&Message::Response { id, result }));
        }
    }

    fn create_container(&mut self, spec: ContainerSpec) -> Result<Reply, CallError> {
        if self.container.is_some() {
            return Err(failed("this microVM has its container already"));
        }
        let limited = self.cgroup.limit(&spec.limits);
        limited.map_err(|error| failed(error.to_string()))?;
        let allowed = self.cgroup.allow(&spec.devices);
        allowed.map_err(|error| failed(error.to_string()))?;
        let given = self.files.give(&spec.files, spec.namespaces.user);
        given.map_err(|error| failed(error.to_string()))?;
        let container =
            Container::create(spec, self.left.take()).map_err(|error| failed(error.to_string()))?;
        let limited = self.cgroup.limit_io(&container.spec.io, UPPER);
        limited.map_err(|error| failed(error.to_string()))?;
        let added = self.network.begin(&container.spec.interfaces);
        added.map_err(|error| failed(error.to_string()))?;
        self.container = Some(container);
        Ok(Reply::Done)
    }

    fn remove_container(&mut self) -> Result<Reply, CallError> {
        if let Some((id, _)) = self.processes.iter().find(|(_, process)| !process.has_ended()) {
            return Err(failed(format!("process {id} is still running")));
        }
        let Some(container) = self.container.take() else {
            return Err(failed("there is no container to remove"));
        };
        let spec = &container.spec;
        if spec.namespaces.user || spec.devices != Devices::default() {
            self.container = Some(container);
            return Err(failed(
                "a container with devices or a user namespace of its own cannot be removed",
            ));
        }
        self.init = None;
        self.processes.clear();
        self.tasks.clear();
        // If this fails there is neither a container nor a place for one: the microVM is of no use any more.
        let left = container.remove().map_err(|error| failed(error.to_string()))?;
        self.left = Some(left);
        Ok(Reply::Done)
    }

    fn with_network(
        &mut self,
        action: impl FnOnce(&mut Network) -> Result<(), NetworkError>,
    ) -> Result<Reply, CallError> {
        match &self.container {
            None => Err(failed("there is no container to connect to a network")),
            Some(_) => answer(action(&mut self.network), |()| Reply::Done),
        }
    }

    fn write_files(&self, files: &[File]) -> Result<Reply, CallError> {
        match &self.container {
            None => Err(failed("there is no container to write files for")),
            Some(_) => answer(self.files.replace(files), |()| Reply::Done),
        }
    }

    fn start_process(&mut self, request: u64, spec: &ProcessSpec) -> Result<(), CallError> {
        let container = self.container_for(spec.id)?;
        let place = match self.init {
            None => Place::Init,
            Some(id) => match self.processes.get(&id).and_then(Process::pidfd) {
                Some(pidfd) => Place::Join(pidfd),
                None => return Err(failed("the container has ended")),
            },
        };
        let oom_kills = self.cgroup.oom_kills();
        let launched = launch(&container.spec, spec, self.cgroup.as_fd(), place)
            .map_err(|error| failed(error.to_string()))?;
        self.adopt(request, spec, launched, oom_kills)?;
        self.init.get_or_insert(spec.id);
        Ok(())
    }

    fn start_task(&mut self, request: u64, id: ProcessId, task: &Task) -> Result<(), CallError> {
        let container = self.container_for(id)?;
        let launched = launch_task(container, task).map_err(|error| failed(error.to_string()))?;
        let spec = ProcessSpec {
            id,
            stdin: archive::has_input(task),
            ..ProcessSpec::default()
        };
        self.adopt(request, &spec, launched, 0)?;
        self.tasks.insert(id);
        Ok(())
    }

    /// The container that a new process of this name is for.
    fn container_for(&self, id: ProcessId) -> Result<&Container, CallError> {
        if self.processes.contains_key(&id) {
            return Err(failed(format!("there is a process {id} already")));
        }
        if self.processes.len() >= MAX_PROCESSES {
            return Err(failed(format!("{MAX_PROCESSES} processes are not forgotten yet")));
        }
        let none = || failed("there is no container to start a process in");
        self.container.as_ref().ok_or_else(none)
    }

    /// Watches what was launched, and answers the request when it runs.
    fn adopt(
        &mut self,
        request: u64,
        spec: &ProcessSpec,
        launched: Launched,
        oom_kills: u64,
    ) -> Result<(), CallError> {
        let (process, report) = process::adopt(&self.poller, spec, launched, oom_kills)
            .map_err(|error| failed(format!("cannot watch the new process: {error}")))?;
        self.processes.insert(spec.id, process);
        self.starting = Some(Starting::new(spec.id, request, self.generation, report));
        Ok(())
    }

    fn with_running(
        &self,
        id: ProcessId,
        action: impl FnOnce(&Process) -> Option<Result<(), Errno>>,
        what: &str,
    ) -> Result<Reply, CallError> {
        let missing = |message| CallError {
            kind: ErrorKind::NotFound,
            message,
        };
        let process = self
            .processes
            .get(&id)
            .ok_or_else(|| missing(format!("there is no process {id}")))?;
        match action(process) {
            Some(Ok(())) => Ok(Reply::Done),
            Some(Err(Errno::SRCH)) => Err(missing(format!("process {id} has ended"))),
            Some(Err(error)) => Err(failed(format!("cannot {what} process {id}: {error}"))),
            None if process.has_ended() => Err(missing(format!("process {id} has ended"))),
            None => Err(failed(format!("cannot {what} process {id}: it has none"))),
        }
    }

    fn forget(&mut self, id: ProcessId) -> Result<Reply, CallError> {
        match self.processes.get(&id) {
            None => Err(CallError {
                kind: ErrorKind::NotFound,
                message: format!("there is no process {id}"),
            }),
            Some(process) if !process.has_ended() => Err(failed(format!("process {id} is still running"))),
            Some(_) => {
                self.processes.remove(&id);
                self.tasks.remove(&id);
                Ok(Reply::Done)
            }
        }
    }

    fn sync(&mut self) -> Result<Reply, CallError> {
        let is_running = self
            .init
            .and_then(|id| self.processes.get(&id))
            .is_some_and(|init| !init.has_ended());
        if is_running {
            return Err(failed("the container is still running"));
        }
        // They hold the disk.
        for task in self.tasks.iter().filter_map(|id| self.processes.get(id)) {
            task.end_now();
        }
        match &mut self.container {
            Some(container) => container
                .rootfs
                .unmount()
                .map(|()| Reply::Done)
                .map_err(|error| failed(error.to_string())),
            None => Ok(Reply::Done),
        }
    }
}

fn answer<T>(result: Result<T, impl Display>, reply: impl FnOnce(T) -> Reply) -> Result<Reply, CallError> {
    result.map(reply).map_err(|error| failed(error.to_string()))
}

/// What the host is told of a failure that needs no name of its own.
pub(super) fn failed(message: impl Into<String>) -> CallError {
    CallError {
        kind: ErrorKind::Failed,
        message: message.into(),
    }
}
