//! The agent: one thread that waits for events and serves the host's requests in their order.

mod calls;
mod starting;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use guest_protocol::{Event, Message, ProcessId, StreamReply};
use rustix::fs::Mode;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, WaitOptions, umask, wait};

use crate::cgroup::Cgroup;
use crate::container::Container;
use crate::control::{Control, ControlError};
use crate::files::Files;
use crate::network::Network;
use crate::os_error::{During, OsError};
use crate::poll::{EventFlags, Poller, Token, Watched};
use crate::process::Process;
use crate::rootfs::Rootfs;
use crate::stream::{self, Greeting};
use crate::{boot, init};
use starting::Starting;

/// Stream connections that have not said what they are for: as many as the kernel lets wait to be accepted, so that
/// none goes for another that came with it.
const MAX_GREETINGS: usize = 256;
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
    network: Network,
    files: Files,
    container: Option<Container>,
    /// What a container that was removed has left for the next one.
    left: Option<Rootfs>,
    processes: BTreeMap<ProcessId, Process>,
    /// The container's init, once it has been started.
    init: Option<ProcessId>,
    starting: Option<Starting>,
    /// Those of the processes that are tasks.
    tasks: BTreeSet<ProcessId>,
    /// Processes that never came to run their program and are not reaped yet.
    failed: Vec<Process>,
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
        let network = Network::boot()?;
        let files = Files::boot()?;
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
            network,
            files,
            container: None,
            left: None,
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
}

fn accept(listener: &Watched) -> Option<OwnedFd> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
}
