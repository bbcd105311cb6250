//! The agent: one thread that waits for events and serves the host's requests in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use guest_protocol::{
    Call, CallError, ContainerSpec, ErrorKind, Event, Message, ProcessId, ProcessSpec, Reply, Request,
    StreamReply, Task,
};
use rustix::event::Timespec;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, WaitOptions, umask, wait};

use crate::cgroup::Cgroup;
use crate::container::Container;
use crate::control::{Control, ControlError};
use crate::launch::{Launched, Place, launch, launch_task};
use crate::os_error::{During, OsError};
use crate::poll::{EventFlags, Poller, Token, Watched};
use crate::process::{self, Process};
use crate::report::{self, Report};
use crate::stream::{self, Greeting};
use crate::{archive, boot, init, restored, usage};

/// How long a process may take from its fork to its exec. Only a container that works against its own `exec` needs
/// longer: by a working directory on a FUSE mount that never answers, say.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Stream connections that have not said what they are for: as many as the kernel lets wait to be accepted, so that
/// none goes for another that came with it.
const MAX_GREETINGS: usize = 256;
/// Processes that the host has not forgotten.
const MAX_PROCESSES: usize = 1024;
const EVENTS_AT_ONCE: usize = 64;

/// PID 1.
pub(crate) struct Agent {
    poller: Rc<Poller>,
    control_listener: Watched,
    stream_listener: Watched,
    /// Open until the host knows that the agent listens.
    ready: Option<Watched>,
    control: Option<Control>,
    /// Counts control connections, so that an answer never goes to another one than its request came from.
    generation: u64,
    greetings: BTreeMap<u32, (Watched, Greeting)>,
    next_greeting: u32,
    /// The container's.
    cgroup: Cgroup,
    container: Option<Container>,
    processes: BTreeMap<ProcessId, Process>,
    /// The container's init, once it has been started.
    init: Option<ProcessId>,
    starting: Option<Starting>,
    /// Those of the processes that are tasks.
    tasks: BTreeSet<ProcessId>,
    /// Processes that never came to run their program and are not reaped yet.
    failed: Vec<Process>,
}

/// A process between its fork and its exec. Requests wait for it.
struct Starting {
    process: ProcessId,
    request: u64,
    generation: u64,
    report: Watched,
    deadline: Instant,
    timed_out: bool,
}

impl Agent {
    /// Makes the guest ready. The host is told as early as possible: it can speak while the rest is done.
    pub(crate) fn boot() -> Result<Self, OsError> {
        umask(Mode::empty());
        let poller = Poller::new().during("make", "an epoll instance")?;
        let watch = |fd: OwnedFd, token: Token, interest: EventFlags| {
            Watched::new(&poller, fd, token, interest).during("watch", format!("{token:?}"))
        };
        let (control, stream) = boot::listeners()?;
        let control_listener = watch(control, Token::ControlListener, EventFlags::IN)?;
        let stream_listener = watch(stream, Token::StreamListener, EventFlags::IN)?;
        let ready = watch(boot::announce()?, Token::Ready, EventFlags::OUT)?;
        boot::bring_up_loopback()?;
        boot::mount_file_systems()?;
        let cgroup = Cgroup::create()?;
        Ok(Self {
            poller,
            control_listener,
            stream_listener,
            ready: Some(ready),
            control: None,
            generation: 0,
            greetings: BTreeMap::new(),
            next_greeting: 0,
            cgroup,
            container: None,
            processes: BTreeMap::new(),
            init: None,
            starting: None,
            tasks: BTreeSet::new(),
            failed: Vec::new(),
        })
    }

    /// Serves the host. Only a failure of the agent itself ends this.
    pub(crate) fn serve(mut self) -> Result<(), OsError> {
        let mut buffer = Vec::with_capacity(EVENTS_AT_ONCE);
        loop {
            let timeout = self.time_left();
            let tokens = self
                .poller
                .wait(&mut buffer, timeout.as_ref())
                .during("wait for", "events")?;
            for token in tokens {
                self.handle(token);
            }
            self.keep_time();
            self.serve_requests();
        }
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Ready => self.ready = None,
            Token::ControlListener => self.accept_control(),
            Token::StreamListener => self.accept_stream(),
            Token::Control => self.with_control(|control| {
                control.flush()?;
                control.receive()
            }),
            Token::Greeting(slot) => self.greet(slot),
            Token::Report => self.read_reports(),
            Token::Process(_) => self.reap(),
            Token::Pipe(id, stream) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.pipe_ready(stream);
                }
            }
            Token::Connection(id, stream) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.connection_ready(stream);
                }
            }
        }
    }

    fn accept_control(&mut self) {
        let Some(socket) = accept(&self.control_listener) else {
            return;
        };
        // The old connection goes first: both share a token.
        self.control = None;
        self.generation += 1;
        self.give_up_tasks();
        match Control::new(&self.poller, socket) {
            Ok(control) => self.control = Some(control),
            Err(error) => eprintln!("guest-agent: {error}"),
        }
    }

    /// Whoever wanted something of a task has gone with the connection that it was asked for on.
    fn give_up_tasks(&mut self) {
        for id in std::mem::take(&mut self.tasks) {
            if let Some(process) = self.processes.remove(&id)
                && !process.has_ended()
            {
                process.kill();
                self.failed.push(process);
            }
        }
    }

    /// Does something with the control connection, and gives it up when that fails. The host makes another when it
    /// wants one.
    fn with_control<T>(&mut self, action: impl FnOnce(&mut Control) -> Result<T, ControlError>) -> T
    where
        T: Default,
    {
        match self.control.as_mut().map(action) {
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                if !matches!(error, ControlError::Closed) {
                    eprintln!("guest-agent: {error}");
                }
                self.control = None;
                T::default()
            }
            None => T::default(),
        }
    }

    fn accept_stream(&mut self) {
        let Some(socket) = accept(&self.stream_listener) else {
            return;
        };
        let slot = self.next_greeting;
        self.next_greeting = slot.wrapping_add(1);
        let Ok(socket) = Watched::new(&self.poller, socket, Token::Greeting(slot), EventFlags::IN) else {
            return;
        };
        if self.greetings.len() == MAX_GREETINGS {
            self.greetings.pop_first();
        }
        self.greetings.insert(slot, (socket, Greeting::new()));
        self.greet(slot);
    }

    fn greet(&mut self, slot: u32) {
        let Some((socket, greeting)) = self.greetings.get_mut(&slot) else {
            return;
        };
        let hello = match greeting.receive(&*socket) {
            Ok(Some(hello)) => hello,
            Ok(None) => return,
            Err(error) => {
                eprintln!("guest-agent: a stream connection failed: {error}");
                self.greetings.remove(&slot);
                return;
            }
        };
        let Some((socket, _)) = self.greetings.remove(&slot) else {
            return;
        };
        match self.processes.get_mut(&hello.process) {
            Some(process) => process.connect(socket, &hello),
            None => {
                let message = format!("there is no process {}", hello.process);
                stream::reply(&socket, &StreamReply::Refused(message));
            }
        }
    }

    fn serve_requests(&mut self) {
        while self.starting.is_none() {
            match self.with_control(Control::next_request) {
                Some(request) => self.serve_request(request),
                None => return,
            }
        }
    }

    fn serve_request(&mut self, Request { id, call }: Request) {
        let result = match call {
            Call::Restored(restored) => {
                restored::make_own(&restored);
                Ok(Reply::Done)
            }
            Call::CreateContainer(spec) => self.create_container(*spec),
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
            Call::Usage => answer(usage::read(self.cgroup.as_fd()), |usage| {
                Reply::Usage(Box::new(usage))
            }),
        };
        self.respond(id, self.generation, result);
    }

    fn respond(&mut self, id: u64, generation: u64, result: Result<Reply, CallError>) {
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
        self.container = Some(Container::create(spec).map_err(|error| failed(error.to_string()))?);
        Ok(Reply::Done)
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
        let launched = launch_task(&container.spec, task).map_err(|error| failed(error.to_string()))?;
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
        self.starting = Some(Starting {
            process: spec.id,
            request,
            generation: self.generation,
            report,
            deadline: Instant::now() + START_LIMIT,
            timed_out: false,
        });
        Ok(())
    }

    /// Hears what the process that is being started has to say.
    fn read_reports(&mut self) {
        while let Some(starting) = &self.starting {
            match report::receive(&starting.report) {
                Ok(None) => return,
                Ok(Some(Report::Terminal(controller))) => {
                    if let Some(process) = self.processes.get_mut(&starting.process)
                        && let Err(error) = process.set_terminal(&self.poller, controller)
                    {
                        self.give_up_start(failed(format!("cannot watch the terminal: {error}")));
                    }
                }
                Ok(Some(Report::Failed(error))) => self.give_up_start(error),
                Ok(Some(Report::Closed)) if starting.timed_out => {
                    let limit = START_LIMIT.as_secs();
                    self.give_up_start(failed(format!(
                        "the process did not reach its program within {limit} s"
                    )));
                }
                Ok(Some(Report::Closed)) => self.finish_start(),
                Err(error) => {
                    self.give_up_start(failed(format!("cannot read the process's report: {error}")))
                }
            }
        }
    }

    /// The process runs its program.
    fn finish_start(&mut self) {
        let Some(Starting {
            process: id,
            request,
            generation,
            ..
        }) = self.starting.take()
        else {
            return;
        };
        let Some(process) = self.processes.get(&id) else {
            return;
        };
        let state = process.state();
        self.respond(request, generation, Ok(Reply::Started { pid: state.pid }));
        if let Some(status) = state.exited {
            self.announce(Event::Exited { process: id, status });
        }
    }

    /// The process never came to run its program: it is as if it had not been there.
    fn give_up_start(&mut self, error: CallError) {
        let Some(Starting {
            process: id,
            request,
            generation,
            ..
        }) = self.starting.take()
        else {
            return;
        };
        if let Some(process) = self.processes.remove(&id)
            && !process.has_ended()
        {
            process.kill();
            self.failed.push(process);
        }
        if self.init == Some(id) {
            self.init = None;
        }
        self.respond(request, generation, Err(error));
    }

    /// How long nothing is to be done unless something happens.
    fn time_left(&self) -> Option<Timespec> {
        let starting = self.starting.as_ref().filter(|starting| !starting.timed_out);
        let rests = self.processes.values().filter_map(Process::rest_until);
        let next = rests.chain(starting.map(|starting| starting.deadline)).min()?;
        Timespec::try_from(next.saturating_duration_since(Instant::now())).ok()
    }

    /// Does what its time has come for.
    fn keep_time(&mut self) {
        let resting = self
            .processes
            .values_mut()
            .filter(|process| process.rest_until().is_some());
        for process in resting {
            process.end_rests(Instant::now());
        }
        self.enforce_start_limit();
    }

    fn enforce_start_limit(&mut self) {
        let Some(starting) = &mut self.starting else {
            return;
        };
        if !starting.timed_out && Instant::now() >= starting.deadline {
            starting.timed_out = true;
            if let Some(process) = self.processes.get(&starting.process) {
                process.kill();
            }
        }
    }

    /// Collects every process that has ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.end_process(pid, init::exit_code(status));
        }
    }

    fn end_process(&mut self, pid: Pid, code: i32) {
        self.failed.retain(|process| process.pid() != pid);
        let oom_kills = self.cgroup.oom_kills();
        let Some((id, process)) = self
            .processes
            .iter_mut()
            .find(|(_, process)| process.pid() == pid && !process.has_ended())
        else {
            return;
        };
        let (id, status) = (*id, process.end(code, oom_kills));
        if self
            .starting
            .as_ref()
            .is_some_and(|starting| starting.process == id)
        {
            // Its start is answered first, with its report; that announces its end, too.
            self.read_reports();
        } else {
            self.announce(Event::Exited { process: id, status });
        }
    }

    fn announce(&mut self, event: Event) {
        self.with_control(|control| control.send(&Message::Event(event)));
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

fn accept(listener: &Watched) -> Option<OwnedFd> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
}

fn answer<T>(result: Result<T, OsError>, reply: impl FnOnce(T) -> Reply) -> Result<Reply, CallError> {
    result.map(reply).map_err(|error| failed(error.to_string()))
}

fn failed(message: impl Into<String>) -> CallError {
    CallError {
        kind: ErrorKind::Failed,
        message: message.into(),
    }
}
