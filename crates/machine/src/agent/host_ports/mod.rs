//! Ports of the host for hulld: nobody outside the VM sees what hulld listens on in it.
//!
//! hulld asks on a unix socket ([`super::HOST_PORTS_SOCKET`], for root alone), with one connection for each port. It sends one
//! line of JSON, and is answered with one:
//!
//! ```text
//! {"protocol":"tcp","address":"0.0.0.0","port":8080}
//! {"ok":true}
//! ```
//!
//! or
//!
//! ```text
//! {"error":"cannot listen on 0.0.0.0:8080/tcp on the host: …","kind":"in-use"}
//! ```
//!
//! - `protocol` is `tcp` or `udp`; `address` one of the host's, or `0.0.0.0` or `::` for all of that kind alone.
//! - `kind` is `in-use`, `denied`, `no-address` (also when the host has no IPv6) or `other`; the text is for people.
//! - The port is the host's until the connection ends. Who wants to know when it is free again ends the writing side alone, and
//!   reads until the end. When hulld dies, its ports go, too.
//! - What comes to the port on the host is connected to the same port in the VM: on the same address if that is one of
//!   `127.0.0.0/8` or `::1`, else on `127.0.0.1` or, for an IPv6 address, `::1`.

mod connect;

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::link::LinkStream;
use crate::ports::{HostPort, PortAnswer, PortOrder, PortRefusal, RefusalKind};
use crate::protocol::{Message, ProtocolError};

pub(crate) use connect::connect;

/// Clients at a time; more wait to be accepted.
const MAX_CLIENTS: usize = 2048;
/// Bytes of a client's line.
const MAX_LINE: u64 = 1024;
/// How long a client may take to send it, and the host to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause after `accept` failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Orders that wait for the link.
const MAX_WAITING: usize = 64;

/// Hands what hulld wants to the host. Its copies are one.
#[derive(Clone)]
pub(crate) struct HostPorts {
    orders: mpsc::Sender<Order>,
    queue: Arc<Mutex<mpsc::Receiver<Order>>>,
    last_id: Arc<AtomicU64>,
}

/// An order, and who waits for the answer.
struct Order {
    order: PortOrder,
    reply: oneshot::Sender<PortAnswer>,
}

impl HostPorts {
    pub(crate) fn new() -> Self {
        let (orders, queue) = mpsc::channel(MAX_WAITING);
        HostPorts {
            orders,
            queue: Arc::new(Mutex::new(queue)),
            last_id: Arc::default(),
        }
    }

    /// Serve clients on a socket, in a folder that is made for it, from now on.
    pub(crate) fn listen(&self, socket: &Path) -> io::Result<()> {
        if let Some(folder) = socket.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        match fs::remove_file(socket) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        tokio::spawn(self.clone().accept(listener));
        Ok(())
    }

    async fn accept(self, listener: UnixListener) {
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        while let Ok(permit) = Arc::clone(&clients).acquire_owned().await {
            match listener.accept().await {
                Ok((client, _)) => {
                    let ports = self.clone();
                    tokio::spawn(async move {
                        ports.serve(client).await;
                        drop(permit);
                    });
                }
                Err(e) => {
                    eprintln!("machine-agent: cannot accept a client for ports of the host: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Carry orders over the stream that the host opened for them, until that ends.
    pub(crate) async fn carry(&self, mut stream: LinkStream) -> Result<(), ProtocolError> {
        let Ok(mut queue) = self.queue.try_lock() else {
            let error = Message::Error("there is a connection for ports of the host already".to_owned());
            return error.send(&mut stream).await;
        };
        let (mut from_host, mut to_host) = tokio::io::split(stream);
        let waiting = std::sync::Mutex::new(HashMap::new());
        let waiting = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let send = async {
            while let Some(Order { order, reply }) = queue.recv().await {
                waiting().insert(order.id(), reply);
                Message::PortOrder(order).send(&mut to_host).await?;
            }
            Ok(())
        };
        let receive = async {
            while let Some(message) = Message::receive(&mut from_host).await? {
                if let Message::PortAnswer(answer) = message
                    && let Some(reply) = waiting().remove(&answer.id)
                {
                    // Who asked may have lost patience.
                    let _ = reply.send(answer);
                }
            }
            Ok(())
        };
        tokio::select! {
            result = send => result,
            result = receive => result,
        }
    }

    /// One client: its port is the host's for as long as it is there.
    async fn serve(&self, client: UnixStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let port = match timeout(PATIENCE, read_port(&mut from_client)).await {
            Ok(Ok(port)) => port,
            Ok(Err(reason)) => {
                let refusal = refusal(format!("cannot read which port is meant: {reason}"));
                // It may not want to know.
                let _ = to_client.write_all(&line(Some(refusal))).await;
                return;
            }
            Err(_) => return,
        };
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let refusal = self.ask(PortOrder::Listen { id, port }).await;
        let refused = refusal.is_some();
        let told = to_client.write_all(&line(refusal)).await;
        if told.is_ok() && !refused {
            // Nothing more is said; an error is an end, too.
            let _ = tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await;
        }
        // Even when it was refused: the host may have listened after all, but too late.
        self.ask(PortOrder::Close { id }).await;
    }

    /// Have the host carry out an order. Why it did not, or `None`.
    async fn ask(&self, order: PortOrder) -> Option<PortRefusal> {
        let asking = async {
            let (reply, answer) = oneshot::channel();
            self.orders.send(Order { order, reply }).await.ok()?;
            answer.await.ok()
        };
        match timeout(PATIENCE, asking).await {
            Ok(Some(answer)) => answer.refusal,
            _ => Some(refusal(
                "the host does not answer: see `hull machine status`".to_owned(),
            )),
        }
    }
}

fn refusal(error: String) -> PortRefusal {
    PortRefusal {
        kind: RefusalKind::Other,
        error,
    }
}

async fn read_port(from: &mut OwnedReadHalf) -> io::Result<HostPort> {
    let mut line = Vec::new();
    BufReader::new(from.take(MAX_LINE))
        .read_until(b'\n', &mut line)
        .await?;
    let mut port: HostPort = serde_json::from_slice(&line)?;
    // An IPv4 address in the clothes of an IPv6 one, RFC 4291, section 2.5.5.2.
    port.address = port.address.to_canonical();
    Ok(port)
}

/// The line that a client is answered with.
fn line(refusal: Option<PortRefusal>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Answer {
        Ok { ok: bool },
        Refused(PortRefusal),
    }
    let answer = refusal.map_or(Answer::Ok { ok: true }, Answer::Refused);
    // An answer of text and words can always be written; without one, a client sees the end.
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    line
}
