//! All connections of a device, and the unix sockets they end in.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::connection::{Connection, Phase, Ports};
use super::greeting::{self, Greeting};
use super::packet::{HOST_CID, Header, STREAM, op};
use crate::log::log;

/// The most connections at a time, those that are still being made included.
pub const MAX_CONNECTIONS: usize = 1023;

/// How long a client on the host may take to say where to, and then the guest to accept.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes that the guest may send ahead of a slow reader on the host: most connections are few, and those get much.
const CAPACITY: u32 = 256 << 10;

/// The same for a connection that is opened while there are [`GENEROUS`] others. With both, what a guest can make the
/// VMM hold is 46 MiB.
const CAPACITY_OF_MANY: u32 = 32 << 10;

/// How many connections get [`CAPACITY`].
const GENEROUS: usize = 64;

/// Refusals that wait for room in the receive queue; with more, the guest's packets have to wait.
const MAX_REFUSALS: usize = 256;

/// Ports of the host for connections to the guest are counted from here.
const FIRST_PORT: u32 = 1 << 30;

/// The listener's token in the epoll set.
pub const LISTENER: u64 = 0;

/// The token of the first connection; those between are free for the device's own events.
pub const FIRST_CONNECTION: u64 = 16;

/// Joins sockets of the guest to unix sockets.
pub struct Multiplexer {
    pub(super) guest_cid: u64,
    pub(super) connections: HashMap<u64, Connection>,
    pub(super) tokens: HashMap<Ports, u64>,
    /// Connections that have something for the guest, each once, in the order of their turns.
    pub(super) line: VecDeque<u64>,
    pub(super) refusals: VecDeque<Header>,
    guest_ports: HashMap<u32, PathBuf>,
    listener: UnixListener,
    listening: bool,
    epoll: Epoll,
    deadlines: VecDeque<(Instant, u64)>,
    next_token: u64,
    next_port: u32,
}

impl Multiplexer {
    /// A multiplexer without connections.
    pub fn new(
        guest_cid: u64,
        listener: UnixListener,
        guest_ports: HashMap<u32, PathBuf>,
    ) -> io::Result<Multiplexer> {
        listener.set_nonblocking(true)?;
        let mut multiplexer = Multiplexer {
            guest_cid,
            connections: HashMap::new(),
            tokens: HashMap::new(),
            line: VecDeque::new(),
            refusals: VecDeque::new(),
            guest_ports,
            listener,
            listening: false,
            epoll: Epoll::new()?,
            deadlines: VecDeque::new(),
            next_token: FIRST_CONNECTION,
            next_port: FIRST_PORT,
        };
        multiplexer.listen()?;
        Ok(multiplexer)
    }

    /// The set in which all sockets are watched.
    pub fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Ends all connections.
    pub fn clear(&mut self) {
        self.connections.clear();
        self.tokens.clear();
        self.line.clear();
        self.refusals.clear();
        self.deadlines.clear();
        self.resume_listening();
    }

    /// Whether another packet of the guest can be taken in.
    pub fn can_receive(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS
    }

    fn listen(&mut self) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN, LISTENER);
        self.epoll
            .ctl(ControlOperation::Add, self.listener.as_raw_fd(), event)?;
        self.listening = true;
        Ok(())
    }

    /// Takes in clients that have connected to the listening socket.
    pub fn accept_clients(&mut self) {
        loop {
            match self.listener.accept() {
                // Dropping a client closes its connection: it is refused.
                Ok((stream, _)) if self.connections.len() < MAX_CONNECTIONS => self.greet(stream),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    log!("vsock: cannot accept a connection: {error}");
                    // Out of descriptors, most likely. The client stays in the backlog until one is free.
                    self.listening = false;
                    let event = EpollEvent::default();
                    let _ = self
                        .epoll
                        .ctl(ControlOperation::Delete, self.listener.as_raw_fd(), event);
                    return;
                }
            }
        }
    }

    fn resume_listening(&mut self) {
        if !self.listening {
            // The next connection that ends tries again.
            let _ = self.listen();
        }
    }

    fn greet(&mut self, stream: UnixStream) {
        let ports = Ports { host: 0, guest: 0 };
        if let Some(token) = self.add(stream, Phase::Greeting, ports) {
            self.deadlines.push_back((Instant::now() + HANDSHAKE, token));
        }
    }

    /// Watches a new connection.
    fn add(&mut self, stream: UnixStream, phase: Phase, ports: Ports) -> Option<u64> {
        let token = self.next_token;
        let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        let event = EpollEvent::new(events, token);
        stream.set_nonblocking(true).ok()?;
        self.epoll
            .ctl(ControlOperation::Add, stream.as_raw_fd(), event)
            .ok()?;
        self.next_token += 1;
        let capacity = if self.connections.len() < GENEROUS {
            CAPACITY
        } else {
            CAPACITY_OF_MANY
        };
        let connection = Connection::new(stream, phase, ports, self.guest_cid, capacity);
        self.connections.insert(token, connection);
        Some(token)
    }

    /// Opens the guest's connection to `ports.host`; `None` refuses it.
    pub(super) fn connect(&mut self, ports: Ports) -> Option<u64> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        let path = self.guest_ports.get(&ports.host)?;
        let stream = match connect_now(path) {
            Ok(stream) => stream,
            Err(error) => {
                log!(
                    "vsock: cannot connect the guest's port {} to {}: {error}",
                    ports.host,
                    path.display()
                );
                return None;
            }
        };
        let token = self.add(stream, Phase::Greeting, ports)?;
        self.tokens.insert(ports, token);
        Some(token)
    }

    /// Something happened to a connection's socket.
    pub fn socket_event(&mut self, token: u64, events: EventSet) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if connection.phase == Phase::Greeting {
            return self.read_greeting(token, events);
        }
        if events.intersects(EventSet::OUT) {
            connection.flush();
        }
        if events.intersects(EventSet::HANG_UP | EventSet::ERROR) {
            connection.host_closed();
        }
        if events.intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR) {
            connection.set_readable();
        }
        self.settle(token);
    }

    fn read_greeting(&mut self, token: u64, events: EventSet) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match greeting::read(connection.stream()) {
            Ok(Greeting::Port(guest)) => {
                let Some(host) = free_port(&mut self.next_port, &self.tokens, &self.guest_ports, guest)
                else {
                    return self.remove(token);
                };
                let ports = Ports { host, guest };
                connection.request(ports);
                self.tokens.insert(ports, token);
                self.enqueue(token);
            }
            Ok(Greeting::Incomplete) if !events.intersects(EventSet::READ_HANG_UP | EventSet::HANG_UP) => {}
            Ok(Greeting::Incomplete | Greeting::Invalid) | Err(_) => self.remove(token),
        }
    }

    /// After anything happened to a connection: ends it when it is over, or lets it wait for its turn to send.
    pub(super) fn settle(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if !connection.is_finished() {
            return self.enqueue(token);
        }
        if connection.phase == Phase::Established {
            // The guest closes a socket by shutting both directions down, and waits for this.
            return self.reset(token);
        }
        self.remove(token);
    }

    pub(super) fn enqueue(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if !connection.queued && connection.has_something() {
            connection.queued = true;
            self.line.push_back(token);
        }
    }

    /// Ends a connection and tells the guest.
    pub(super) fn reset(&mut self, token: u64) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        if matches!(connection.phase, Phase::Requested | Phase::Established) {
            let Ports { host, guest } = connection.ports;
            self.refusals.push_back(Header {
                src_cid: HOST_CID,
                dst_cid: self.guest_cid,
                src_port: host,
                dst_port: guest,
                kind: STREAM,
                op: op::RST,
                ..Header::default()
            });
        }
        self.remove(token);
    }

    /// The guest says that it has no such connection (any more).
    pub(super) fn guest_reset(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let ports = connection.ports;
        let established = connection.phase == Phase::Established;
        if established && connection.guest_gone() {
            self.tokens.remove(&ports);
        } else {
            self.remove(token);
        }
    }

    pub(super) fn remove(&mut self, token: u64) {
        // Closing the socket takes it out of the epoll set.
        let Some(connection) = self.connections.remove(&token) else {
            return;
        };
        if self.tokens.get(&connection.ports) == Some(&token) {
            self.tokens.remove(&connection.ports);
        }
        self.resume_listening();
    }

    /// When [`expire`](Self::expire) has something to do at the earliest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Ends the connections whose making took too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(deadline, token)) = self.deadlines.front() {
            let phase = self.connections.get(&token).map(|connection| connection.phase);
            match phase {
                Some(Phase::Greeting | Phase::Requested) if deadline > now => return,
                Some(Phase::Greeting | Phase::Requested) => self.reset(token),
                _ => {}
            }
            self.deadlines.pop_front();
        }
    }
}

/// A port of the host that no connection to `guest` uses.
fn free_port(
    next: &mut u32,
    used: &HashMap<Ports, u64>,
    guest_ports: &HashMap<u32, PathBuf>,
    guest: u32,
) -> Option<u32> {
    // There are at most `MAX_CONNECTIONS` in the way, and the ports of the spec.
    for _ in 0..=MAX_CONNECTIONS + guest_ports.len() {
        let host = *next;
        *next = next
            .checked_add(1)
            .filter(|&port| port != u32::MAX)
            .unwrap_or(FIRST_PORT);
        if !used.contains_key(&Ports { host, guest }) && !guest_ports.contains_key(&host) {
            return Some(host);
        }
    }
    None
}

/// Connects without waiting: a listener whose backlog is full is as good as none.
fn connect_now(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
