//! The flows of one published UDP port: for each client a socket of its own towards the container, whose port tells its answers
//! from those to others.

use std::collections::HashMap;
use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;
use tracing::debug;

use super::background::{Background, lock};
use super::datagrams::{Client, Datagrams, MAX_DATAGRAM};
use super::{Limits, PAUSE};

/// The room that answers of a port are received in, one after the other: one for each flow would be 64 MiB in all.
type Scratch = Arc<Mutex<Vec<u8>>>;

/// All flows of a port.
pub(super) struct Flows {
    datagrams: Arc<Datagrams>,
    target: SocketAddr,
    limits: Limits,
    scratch: Scratch,
    flows: HashMap<Client, Flow>,
}

struct Flow {
    line: Arc<Line>,
    _answers: Background,
}

/// The socket of a flow, and what is known of its use.
struct Line {
    socket: UdpSocket,
    usage: Mutex<Usage>,
}

#[derive(Clone, Copy)]
struct Usage {
    last: Instant,
    answered: bool,
}

impl Flows {
    /// None yet.
    pub(super) fn new(datagrams: Arc<Datagrams>, target: SocketAddr, limits: Limits) -> Self {
        Self {
            datagrams,
            target,
            limits,
            scratch: Arc::new(Mutex::new(vec![0; MAX_DATAGRAM])),
            flows: HashMap::new(),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Carries a datagram to the container, in a new flow if its client has none. It may be lost on the way, as datagrams may.
    pub(super) fn carry(&mut self, client: Client, datagram: &[u8]) {
        if let Some(flow) = self.flows.get(&client) {
            return flow.line.carry(datagram);
        }
        if self.flows.len() >= self.limits.flows.max(1) {
            self.end_oldest();
        }
        match self.open(client) {
            Ok(flow) => {
                flow.line.carry(datagram);
                self.flows.insert(client, flow);
            }
            Err(error) => debug!(target = %self.target, %error, "no flow for a client of a published port"),
        }
    }

    /// Ends the flows that have been idle for too long.
    pub(super) fn end_idle(&mut self) {
        let (now, limits) = (Instant::now(), self.limits);
        self.flows.retain(|_, flow| {
            let usage = *lock(&flow.line.usage);
            let most = match usage.answered {
                true => limits.idle,
                false => limits.unanswered,
            };
            now.saturating_duration_since(usage.last) < most
        });
    }

    fn end_oldest(&mut self) {
        let oldest = self
            .flows
            .iter()
            .min_by_key(|(_, flow)| lock(&flow.line.usage).last);
        if let Some(client) = oldest.map(|(client, _)| *client) {
            self.flows.remove(&client);
        }
    }

    fn open(&self, client: Client) -> io::Result<Flow> {
        let line = Arc::new(Line {
            socket: connected(self.target)?,
            usage: Mutex::new(Usage {
                last: Instant::now(),
                answered: false,
            }),
        });
        let (datagrams, scratch) = (Arc::clone(&self.datagrams), Arc::clone(&self.scratch));
        let answers = answer(Arc::clone(&line), client, datagrams, scratch);
        Ok(Flow {
            line,
            _answers: Background::spawn(answers),
        })
    }
}

fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = net::UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Carries the container's answers to the client.
async fn answer(line: Arc<Line>, client: Client, datagrams: Arc<Datagrams>, scratch: Scratch) {
    loop {
        match line.receive(&scratch).await {
            Ok(datagram) => {
                line.used(true);
                if let Err(error) = datagrams.answer(&datagram, &client).await {
                    debug!(client = %client.address, %error, "an answer of a published port is lost");
                }
            }
            // Nobody listens in the container, yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                debug!(client = %client.address, %error, "no answers of a published port for now");
                sleep(PAUSE).await;
            }
        }
    }
}

impl Line {
    /// Sends a datagram to the container, unless the container does not keep up: other clients of the port do not wait for it.
    fn carry(&self, datagram: &[u8]) {
        self.used(false);
        let send = || send(self.socket.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT);
        // That an earlier datagram was refused is said instead of sending this one.
        if send() == Err(Errno::ECONNREFUSED) {
            let _ = send();
        }
    }

    async fn receive(&self, scratch: &Mutex<Vec<u8>>) -> io::Result<Vec<u8>> {
        let receive = || {
            let mut scratch = lock(scratch);
            let length = recv(self.socket.as_raw_fd(), &mut scratch, MsgFlags::MSG_DONTWAIT)?;
            Ok(scratch.get(..length).unwrap_or_default().to_vec())
        };
        self.socket.async_io(Interest::READABLE, receive).await
    }

    fn used(&self, answered: bool) {
        let mut usage = lock(&self.usage);
        usage.last = Instant::now();
        usage.answered |= answered;
    }
}
