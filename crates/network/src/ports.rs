//! Ports of the host that lead to containers, in user space.
//!
//! The kernel's address translation carries most of what comes from outside. A listener here reserves the port, so that whoever
//! wants it next is told, and it carries what the translation cannot: connections from the host's own loopback, IPv6 clients of a
//! container that has IPv4 only, and the ports of a helper VM.

mod background;
mod bind;
mod datagrams;
mod error;
mod flows;
mod forward;
mod outer;
mod pool;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::Protocol;

pub use error::{Binding, PortError};
pub use forward::Forward;
pub use outer::{Held, OuterHost};
pub use pool::PortPool;

/// How long to wait before a port is tried again that failed for want of memory or descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Listen {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address of the host. The unspecified one stands for all of its family, and for none of the other.
    pub address: IpAddr,
    /// The port; 0 has the kernel choose one.
    pub port: u16,
}

impl Listen {
    /// The address and the port. An IPv4 address written as an IPv6 one is an IPv4 address.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.to_canonical(), self.port)
    }
}

/// What the clients of one port can make hulld hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at a time, at least 1; further clients wait until one ends.
    pub connections: usize,
    /// How long a container has to accept a connection.
    pub connect: Duration,
    /// UDP flows at a time, at least 1; a further one takes the place of the one that was idle longest.
    pub flows: usize,
    /// When a flow ends through which nothing goes.
    pub idle: Duration,
    /// The same for a flow that the container has not answered yet.
    pub unanswered: Duration,
}

impl Default for Limits {
    /// 1024 connections or flows, 5 s to connect, 90 s and 30 s for idle flows.
    fn default() -> Self {
        Self {
            connections: 1024,
            connect: Duration::from_secs(5),
            flows: 1024,
            idle: Duration::from_secs(90),
            unanswered: Duration::from_secs(30),
        }
    }
}
