//! A UDP port: each of its clients has a stream into the VM for as long as datagrams go to and fro.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::datagrams::{Datagrams, Peer};
use super::{Carriage, MAX_STREAMS_OF_PORT, PAUSE};
use crate::ports::{HostPort, MAX_DATAGRAM, datagrams};
use crate::protocol::ProtocolError;

/// How long a client's stream is kept when nothing passes, and when nothing has come back yet.
const IDLE: Duration = Duration::from_secs(60);
const UNANSWERED: Duration = Duration::from_secs(30);
/// Datagrams of one client, and bytes of all clients of a port, that wait for the VM. More are lost, as on any full link.
const MAX_QUEUED: usize = 64;
const MAX_QUEUED_BYTES: usize = 4 << 20;

/// Serve the port until dropped, and all of its clients with it.
pub(super) async fn serve(socket: Datagrams, port: HostPort, carriage: Carriage) {
    let mut flows = Flows::new();
    let mut running = FuturesUnordered::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        tokio::select! {
            (length, peer) = receive(&socket, &mut buffer) => {
                let Some(datagram) = flows.datagram(&buffer[..length]) else { continue };
                let Some(datagram) = flows.queue(&peer, datagram) else { continue };
                let Ok(permit) = Arc::clone(&carriage.streams).try_acquire_owned() else { continue };
                let (queued, ended) = flows.begin(peer, datagram);
                running.push(carry(&socket, &port, &carriage, Client { peer, queued, ended, _permit: permit }));
            }
            Some(()) = running.next() => flows.forget_ended(),
        }
    }
}

async fn receive(socket: &Datagrams, buffer: &mut [u8]) -> (usize, Peer) {
    loop {
        match socket.receive(buffer).await {
            Ok(received) => return received,
            Err(e) => {
                eprintln!("cannot receive from a published port: {e}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A datagram on its way into the VM, and its share of what may wait.
struct Datagram {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The clients of a port.
struct Flows {
    by_peer: HashMap<Peer, Flow>,
    room: Arc<Semaphore>,
    /// Datagrams so far: a clock.
    seen: u64,
}

struct Flow {
    queue: mpsc::Sender<Datagram>,
    last_seen: u64,
    /// Dropped, it ends what carries the datagrams.
    _end: oneshot::Sender<Infallible>,
}

impl Flows {
    fn new() -> Self {
        Flows {
            by_peer: HashMap::new(),
            room: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
            seen: 0,
        }
    }

    /// A copy of what was received; `None` when too much waits already.
    fn datagram(&self, bytes: &[u8]) -> Option<Datagram> {
        let length = u32::try_from(bytes.len()).ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(length).ok()?;
        Some(Datagram {
            bytes: Bytes::copy_from_slice(bytes),
            _room: room,
        })
    }

    /// Hand a datagram to what carries those of its client. Comes back when there is no such thing.
    fn queue(&mut self, peer: &Peer, datagram: Datagram) -> Option<Datagram> {
        self.seen += 1;
        let Some(flow) = self.by_peer.get_mut(peer) else {
            return Some(datagram);
        };
        flow.last_seen = self.seen;
        match flow.queue.try_send(datagram) {
            Err(mpsc::error::TrySendError::Closed(datagram)) => Some(datagram),
            _ => None,
        }
    }

    /// Begin a new client with its first datagram; when there are as many as may be, the one that was silent longest ends.
    fn begin(
        &mut self,
        peer: Peer,
        first: Datagram,
    ) -> (mpsc::Receiver<Datagram>, oneshot::Receiver<Infallible>) {
        if self.by_peer.len() >= MAX_STREAMS_OF_PORT {
            let oldest = self.by_peer.iter().min_by_key(|(_, flow)| flow.last_seen);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.by_peer.remove(&oldest);
            }
        }
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let (end, ended) = oneshot::channel();
        // A new queue takes one.
        let _ = queue.try_send(first);
        let flow = Flow {
            queue,
            last_seen: self.seen,
            _end: end,
        };
        self.by_peer.insert(peer, flow);
        (queued, ended)
    }

    fn forget_ended(&mut self) {
        self.by_peer.retain(|_, flow| !flow.queue.is_closed());
    }
}

/// One client, for what carries its datagrams.
struct Client {
    peer: Peer,
    queued: mpsc::Receiver<Datagram>,
    ended: oneshot::Receiver<Infallible>,
    _permit: OwnedSemaphorePermit,
}

/// Carry a client's datagrams until it is silent, or its place is needed.
async fn carry(socket: &Datagrams, port: &HostPort, carriage: &Carriage, mut client: Client) {
    tokio::select! {
        // A datagram that does not arrive is no error.
        _ = join(socket, port, carriage, client.peer, &mut client.queued) => {}
        _ = &mut client.ended => {}
    }
}

async fn join(
    socket: &Datagrams,
    port: &HostPort,
    carriage: &Carriage,
    peer: Peer,
    queued: &mut mpsc::Receiver<Datagram>,
) -> Result<(), ProtocolError> {
    let stream = carriage.open(port).await?;
    let (from_vm, to_vm) = tokio::io::split(stream);
    let mut from_vm = FramedRead::new(from_vm, datagrams());
    let mut to_vm = FramedWrite::new(to_vm, datagrams());
    let traffic = Traffic::default();
    let inwards = async {
        while let Some(datagram) = queued.recv().await {
            to_vm.send(datagram.bytes).await?;
            traffic.passed.notify_one();
        }
        Ok::<_, io::Error>(())
    };
    let outwards = async {
        while let Some(datagram) = from_vm.next().await {
            // The client may be gone.
            let _ = socket.send(&datagram?, &peer).await;
            traffic.answered.store(true, Ordering::Relaxed);
            traffic.passed.notify_one();
        }
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        result = inwards => result?,
        result = outwards => result?,
        () = traffic.ceases() => {}
    }
    Ok(())
}

/// Whether datagrams pass, in either direction.
#[derive(Default)]
struct Traffic {
    passed: Notify,
    answered: AtomicBool,
}

impl Traffic {
    async fn ceases(&self) {
        loop {
            let patience = if self.answered.load(Ordering::Relaxed) {
                IDLE
            } else {
                UNANSWERED
            };
            if timeout(patience, self.passed.notified()).await.is_err() {
                return;
            }
        }
    }
}
