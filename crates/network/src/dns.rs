//! The name server that containers ask: it knows the names of containers, and hands all other questions on.
//!
//! It speaks plain DNS (RFC 1035) over UDP and TCP on the host's address in each network. What a name stands for is not its
//! business but that of [`Names`]. hickory-proto reads and writes messages. The sockets are served here: hickory-server bounds
//! neither the connections nor the questions of one client, and hickory-net does not see that a server is not there.

mod answer;
mod encode;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod names;
mod places;
mod question;
mod relay;
mod serving;
mod tcp;
mod udp;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

pub use hickory_proto::rr::RecordType;
pub use host::host_servers;
pub use names::{Forward, Names, Pinned};

use serving::Serving;

/// The port that name servers are asked at.
pub const DNS_PORT: u16 = 53;

/// An address cannot be served.
#[derive(Debug, Error)]
pub enum DnsError {
    /// Another program has it.
    #[error(
        "cannot answer questions about names at {address} ({protocol}): another name server of this host listens there, or on \
         all addresses; have that one listen on its own addresses only (dnsmasq: bind-dynamic, unbound: interface)"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
    },
    /// The kernel refused.
    #[error("cannot answer questions about names at {address} ({protocol}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn refused(address: SocketAddr, protocol: &'static str) -> impl FnOnce(io::Error) -> DnsError {
    move |source| match source.kind() {
        io::ErrorKind::AddrInUse => DnsError::InUse { address, protocol },
        _ => DnsError::Listen {
            address,
            protocol,
            source,
        },
    }
}

/// The name server of all networks: what one client may take of it is bounded over all of them.
pub struct DnsServer {
    serving: Arc<Serving>,
}

impl DnsServer {
    /// A server that answers nobody yet.
    pub fn new(names: Arc<dyn Names>) -> Self {
        Self {
            serving: Arc::new(Serving::new(names)),
        }
    }

    /// Answers those who ask at this address until the result is dropped; within a tokio runtime.
    ///
    /// The address has to be one of the host's and not a wildcard, because an answer has to come from where the question went.
    /// With port 0 it is one that is free for UDP, and an error if it is not free for TCP.
    pub async fn listen(&self, address: SocketAddr) -> Result<Listening, DnsError> {
        let bound = UdpSocket::bind(address).await;
        let udp = bound.map_err(refused(address, "UDP"))?;
        let address = udp.local_addr().map_err(refused(address, "UDP"))?;
        let bound = TcpListener::bind(address).await;
        let tcp = bound.map_err(refused(address, "TCP"))?;
        Ok(Listening {
            address,
            udp: tokio::spawn(udp::serve(Arc::clone(&self.serving), udp)),
            tcp: tokio::spawn(tcp::serve(Arc::clone(&self.serving), tcp)),
        })
    }
}

/// An address at which questions are answered, for as long as this lives.
pub struct Listening {
    address: SocketAddr,
    udp: JoinHandle<()>,
    tcp: JoinHandle<()>,
}

impl Listening {
    /// Where questions are answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers no more, and returns when the address is free for somebody else.
    pub async fn close(mut self) {
        self.stop();
        // They end because they are told to: nothing to learn from it.
        let _ = (&mut self.udp).await;
        let _ = (&mut self.tcp).await;
    }

    fn stop(&self) {
        self.udp.abort();
        self.tcp.abort();
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop();
    }
}
