//! Ports of the host that lead into the VM: the published ports of the containers in it.
//!
//! The agent says which ones, on one stream of the link that lives as long as the VM. Whoever connects to one of them gets a
//! stream of their own; the agent connects its other end to hulld. The addresses of clients are not known in the VM.
//!
//! What anybody may send to a port is bounded: so many streams for all ports together, which are not those of the API, a share
//! of them for each port, and a few that the agent has not answered yet.

mod bind;
mod datagrams;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use bind::{BindError, Socket, bind};

use crate::link::{LinkStream, Opener};
use crate::ports::{HostPort, PortAnswer, PortOrder, PortRefusal, RefusalKind};
use crate::protocol::{Message, ProtocolError, Request};

/// Ports at a time.
const MAX_PORTS: usize = 1024;
/// Streams of all ports at a time. More connections wait; datagrams of more clients are lost.
pub(super) const MAX_PORT_STREAMS: usize = 512;
/// Streams of one port at a time, so that those who flood one do not take the others along.
const MAX_STREAMS_OF_PORT: usize = 256;
/// Streams that the agent has not answered yet. The link opens no more, for the API neither, when there are 256.
const MAX_OPENING: usize = 64;
/// How long the agent may take to connect. It gives up sooner itself.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// Pause after a socket failed, as it does when descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

/// The ports that the VM has on the host. Dropped, the host listens on none of them.
pub(super) struct HostPorts {
    _serving: AbortOnDropHandle<()>,
}

impl HostPorts {
    /// Carry out the agent's orders from now on.
    pub(super) fn serve(opener: Opener) -> Self {
        let serving = tokio::spawn(async move {
            if let Err(e) = serve(opener).await {
                eprintln!("no port of the host leads into the helper VM any more: {e}");
            }
        });
        HostPorts {
            _serving: AbortOnDropHandle::new(serving),
        }
    }
}

async fn serve(opener: Opener) -> Result<(), ProtocolError> {
    let mut orders = opener.open().await.map_err(io::Error::other)?;
    Message::Request(Request::HostPorts).send(&mut orders).await?;
    let mut table = Table {
        ports: HashMap::new(),
        carriage: Carriage::new(opener),
    };
    while let Some(message) = Message::receive(&mut orders).await? {
        let reply = match message {
            Message::PortOrder(order) => Message::PortAnswer(table.carry_out(order).await),
            other => Message::Error(format!("{other:?} is not about a port")),
        };
        reply.send(&mut orders).await?;
    }
    Ok(())
}

/// The ports that are listened on, by the agent's names for them.
struct Table {
    ports: HashMap<u64, AbortOnDropHandle<()>>,
    carriage: Carriage,
}

impl Table {
    async fn carry_out(&mut self, order: PortOrder) -> PortAnswer {
        let id = order.id();
        // A name that is used once more is another port from then on.
        self.close(id).await;
        let done = match order {
            PortOrder::Listen { port, .. } => self.listen(id, port),
            PortOrder::Close { .. } => Ok(()),
        };
        PortAnswer {
            id,
            refusal: done.err().map(PortRefusal::from),
        }
    }

    fn listen(&mut self, id: u64, port: HostPort) -> Result<(), BindError> {
        if self.ports.len() >= MAX_PORTS {
            return Err(BindError::TooMany);
        }
        let carriage = self.carriage.clone();
        let serving = match bind(&port)? {
            Socket::Tcp(listener) => tokio::spawn(tcp::serve(listener, port, carriage)),
            Socket::Udp(socket) => tokio::spawn(udp::serve(socket, port, carriage)),
        };
        self.ports.insert(id, AbortOnDropHandle::new(serving));
        Ok(())
    }

    /// The port is free when this returns: its task, which owns all of its sockets, is gone.
    async fn close(&mut self, id: u64) {
        if let Some(serving) = self.ports.remove(&id) {
            serving.abort();
            // It ends by being told to.
            let _ = serving.await;
        }
    }
}

/// What all ports use to get into the VM.
#[derive(Clone)]
struct Carriage {
    opener: Opener,
    /// A permit is out for each stream.
    streams: Arc<Semaphore>,
    opening: Arc<Semaphore>,
}

impl Carriage {
    fn new(opener: Opener) -> Self {
        Carriage {
            opener,
            streams: Arc::new(Semaphore::new(MAX_PORT_STREAMS)),
            opening: Arc::new(Semaphore::new(MAX_OPENING)),
        }
    }

    /// A stream whose other end is connected to hulld's side of the port. The caller holds a permit for it.
    async fn open(&self, port: &HostPort) -> Result<LinkStream, ProtocolError> {
        let _opening = self.opening.acquire().await.map_err(io::Error::other)?;
        let connect = async {
            let mut stream = self.opener.open().await.map_err(io::Error::other)?;
            Message::Request(Request::Connect(*port))
                .send(&mut stream)
                .await?;
            match Message::receive(&mut stream).await? {
                Some(Message::Connected) => Ok(stream),
                Some(Message::Error(reason)) => Err(io::Error::other(reason).into()),
                _ => Err(ProtocolError::Io(io::ErrorKind::ConnectionRefused.into())),
            }
        };
        timeout(CONNECT_PATIENCE, connect)
            .await
            .unwrap_or_else(|_| Err(ProtocolError::Io(io::ErrorKind::TimedOut.into())))
    }
}

impl From<BindError> for PortRefusal {
    fn from(error: BindError) -> Self {
        let kind = match &error {
            BindError::Refused { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => RefusalKind::InUse,
                io::ErrorKind::PermissionDenied => RefusalKind::Denied,
                io::ErrorKind::AddrNotAvailable => RefusalKind::NoAddress,
                _ if bind::is_unknown_family(source) => RefusalKind::NoAddress,
                _ => RefusalKind::Other,
            },
            BindError::Zero | BindError::TooMany => RefusalKind::Other,
        };
        PortRefusal {
            kind,
            error: error.to_string(),
        }
    }
}
