//! The main thread's loop: the control socket (`vm_spec::control`), signals, and the ending of the microVM.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use thiserror::Error;
use vm_spec::control::{MAX_DESCRIPTORS, MAX_REQUEST, Request, Response, State};
use vm_spec::{ExitReason, ExitReport};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::board::Microvm;
use crate::ending::Ending;
use crate::log::log;

/// The most clients at a time; who comes later is turned away.
const MAX_CLIENTS: usize = 32;

/// What an event is about; clients are numbered from [`FIRST_CLIENT`].
const ENDING: u64 = 0;
const SIGNALS: u64 = 1;
const LISTENER: u64 = 2;
const FIRST_CLIENT: u64 = 3;

/// The loop could not be set up or go on.
#[derive(Debug, Error)]
#[error("cannot {action}: {source}")]
pub struct ControlError {
    action: &'static str,
    source: io::Error,
}

fn cannot<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> ControlError {
    move |source| ControlError {
        action,
        source: source.into(),
    }
}

/// SIGTERM and SIGINT, held back from this thread and from all it starts, to be read as events.
pub fn hold_signals() -> Result<SignalFd, ControlError> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(cannot("block signals"))?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(cannot("make a signalfd"))
}

/// Everything the main thread waits for.
pub struct Controls {
    epoll: Epoll,
    signals: SignalFd,
    listener: UnixListener,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
}

impl Controls {
    /// Takes over the listening socket and the held signals.
    pub fn new(listener: UnixListener, signals: SignalFd) -> Result<Self, ControlError> {
        listener
            .set_nonblocking(true)
            .map_err(cannot("set up the control socket"))?;
        let epoll = Epoll::new().map_err(cannot("make an epoll"))?;
        Ok(Self {
            epoll,
            signals,
            listener,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
        })
    }

    /// Serves clients until `ending` has come, by them or otherwise.
    pub fn serve(&mut self, microvm: &mut Microvm, ending: &Ending) -> Result<ExitReport, ControlError> {
        self.watch(ending.as_raw_fd(), ENDING)?;
        self.watch(self.signals.as_raw_fd(), SIGNALS)?;
        self.watch(self.listener.as_raw_fd(), LISTENER)?;
        let mut events = [EpollEvent::default(); MAX_CLIENTS];
        loop {
            if let Some(report) = ending.report() {
                return Ok(report.clone());
            }
            let ready = match self.epoll.wait(-1, &mut events) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cannot("wait for events")(error)),
            };
            for event in &events[..ready] {
                match event.data() {
                    ENDING => {}
                    SIGNALS => self.take_signal(ending),
                    LISTENER => self.accept(),
                    client => self.serve_client(client, microvm, ending),
                }
            }
        }
    }

    fn watch(&self, fd: RawFd, token: u64) -> Result<(), ControlError> {
        let interest = EpollEvent::new(EventSet::IN, token);
        self.epoll
            .ctl(ControlOperation::Add, fd, interest)
            .map_err(cannot("watch a descriptor"))
    }

    fn take_signal(&self, ending: &Ending) {
        if let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo)
                .ok()
                .and_then(|number| Signal::try_from(number).ok());
            ending.end(ExitReason::Signal, signal.map_or("", Signal::as_str));
        }
    }

    fn accept(&mut self) {
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        let stream = match accepted {
            Ok(stream) if self.clients.len() < MAX_CLIENTS => stream,
            Ok(_) => return log!("control: more than {MAX_CLIENTS} clients; one is turned away"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return log!("control: cannot accept a client: {error}"),
        };
        let token = self.next_client;
        match self.watch(stream.as_raw_fd(), token) {
            Ok(()) => {
                self.next_client += 1;
                self.clients.insert(
                    token,
                    Client {
                        stream,
                        received: Vec::new(),
                        descriptors: Vec::new(),
                    },
                );
            }
            Err(error) => log!("control: {error}"),
        }
    }

    /// Answers what a client has sent so far; one that is done or misbehaves is dropped (and with its descriptor, the
    /// epoll's interest in it).
    fn serve_client(&mut self, token: u64, microvm: &mut Microvm, ending: &Ending) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        if !client.serve(|request, descriptors| answer(request, descriptors, microvm, ending)) {
            self.clients.remove(&token);
        }
    }
}

/// Carries out one request, with the descriptors that came up to its end.
fn answer(line: &[u8], descriptors: Vec<OwnedFd>, microvm: &mut Microvm, ending: &Ending) -> Response {
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Response::Error(format!("not a request: {error}")),
    };
    let files = descriptors.into_iter().map(File::from);
    let done = match request {
        Request::State => Ok(()),
        Request::Pause => {
            microvm.pause();
            Ok(())
        }
        Request::Resume => {
            microvm.resume();
            Ok(())
        }
        Request::Plug { device } => microvm
            .plug(&device, files.collect())
            .map_err(|error| error.to_string()),
        Request::AddLayers { device, names } if names.len() == files.len() => microvm
            .add_layers(&device, names.into_iter().zip(files).collect())
            .map_err(|error| error.to_string()),
        Request::AddLayers { names, .. } => Err(format!(
            "{} layers are named, and {} files came with the request",
            names.len(),
            files.len()
        )),
        Request::Save => microvm.save().map_err(|error| error.to_string()),
        Request::Stop => {
            ending.end(ExitReason::Stopped, "");
            return Response::State(State::Stopped);
        }
    };
    match done {
        Ok(()) => Response::State(microvm.state()),
        Err(error) => Response::Error(error),
    }
}

struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Client {
    /// Reads what there is and answers every whole line. False when the client is to be dropped.
    fn serve(&mut self, mut answer: impl FnMut(&[u8], Vec<OwnedFd>) -> Response) -> bool {
        match self.receive() {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => {
                return matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
            }
        }
        if self.descriptors.len() > MAX_DESCRIPTORS {
            self.send(&Response::Error(format!(
                "a request has at most {MAX_DESCRIPTORS} descriptors"
            )));
            return false;
        }
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            let descriptors = std::mem::take(&mut self.descriptors);
            if !self.send(&answer(&line, descriptors)) {
                return false;
            }
        }
        if self.received.len() < MAX_REQUEST {
            return true;
        }
        self.send(&Response::Error(format!(
            "a request has at most {MAX_REQUEST} bytes"
        )));
        false
    }

    /// Receives what there is; returns the number of bytes.
    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; MAX_REQUEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS + 1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut chunk)];
        let message = recvmsg(&self.stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                self.descriptors.extend(descriptors);
            }
        }
        self.received.extend_from_slice(&chunk[..message.bytes]);
        Ok(message.bytes)
    }

    /// An answer is far smaller than a socket's buffer: a client that has filled it does not read, and is dropped.
    fn send(&mut self, response: &Response) -> bool {
        let Ok(mut line) = serde_json::to_vec(response) else {
            return false;
        };
        line.push(b'\n');
        self.stream.write_all(&line).is_ok()
    }
}

#[cfg(test)]
mod tests;
