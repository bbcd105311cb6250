//! A port of the host that leads to a container.

use std::io;
use std::net::SocketAddr;

use super::background::Background;
use super::datagrams::Datagrams;
use super::{Binding, Limits, Listen, PortError, bind, tcp, udp};
use crate::Protocol;

/// A port of the host that leads to a container. Dropping it frees the port at once and ends its connections.
pub struct Forward {
    listen: Listen,
    _work: Background,
}

impl Forward {
    /// Listens at `listen` from now on, and passes on to `target` what comes there; within a tokio runtime.
    pub async fn open(listen: &Listen, target: SocketAddr) -> Result<Self, PortError> {
        Self::open_with(listen, target, Limits::default()).await
    }

    /// The same with other limits.
    pub async fn open_with(listen: &Listen, target: SocketAddr, limits: Limits) -> Result<Self, PortError> {
        let binding = Binding {
            listen: *listen,
            target,
        };
        start(&binding, limits).map_err(|source| PortError::bind(binding, source))
    }

    /// The port of the host, also where the kernel chose it.
    pub fn port(&self) -> u16 {
        self.listen.port
    }

    /// Where it listens.
    pub fn listen(&self) -> Listen {
        self.listen
    }
}

fn start(binding: &Binding, limits: Limits) -> io::Result<Forward> {
    let (address, target) = (binding.listen.socket_address(), binding.target);
    let (bound, work) = match binding.listen.protocol {
        Protocol::Tcp => {
            let listener = bind::tcp(address)?;
            let bound = listener.local_addr()?;
            (bound, Background::spawn(tcp::serve(listener, target, limits)))
        }
        Protocol::Udp => {
            let socket = bind::udp(address)?;
            let bound = socket.local_addr()?;
            let datagrams = Datagrams::new(socket);
            (bound, Background::spawn(udp::serve(datagrams, target, limits)))
        }
    };
    let listen = Listen {
        port: bound.port(),
        ..binding.listen
    };
    Ok(Forward { listen, _work: work })
}

#[cfg(test)]
mod tests {
    use std::net;

    use super::*;
    use crate::ports::testing::{forward, listen, loopback};

    #[tokio::test]
    async fn a_port_that_somebody_has_is_in_use_until_it_is_dropped() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let first = forward(protocol, "127.0.0.1:80".parse().unwrap()).await;
            let again = Listen {
                port: first.port(),
                ..listen(protocol, "127.0.0.1")
            };
            let target = "172.17.0.2:80".parse().unwrap();
            let error = Forward::open(&again, target).await.err().unwrap();
            let host = again.socket_address();
            assert_eq!(
                error.to_string(),
                format!(
                    "failed to bind host port for {host}:172.17.0.2:80/{protocol}: address already in use"
                )
            );
            drop(first);
            // By somebody who does without SO_REUSEADDR in the case of UDP.
            match protocol {
                Protocol::Tcp => drop(net::TcpListener::bind(host).unwrap()),
                Protocol::Udp => drop(net::UdpSocket::bind(host).unwrap()),
            }
        }
    }

    #[tokio::test]
    async fn a_wildcard_takes_the_port_of_its_own_family_only() {
        if !loopback("::1") {
            return;
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let target = "127.0.0.1:80".parse().unwrap();
            let v6 = Forward::open(&listen(protocol, "::"), target).await.unwrap();
            let v4 = Listen {
                port: v6.port(),
                ..listen(protocol, "0.0.0.0")
            };
            let v4 = Forward::open(&v4, target).await.unwrap();
            assert_eq!(v4.port(), v6.port());
            assert_eq!(v4.listen().address, listen(protocol, "0.0.0.0").address);
        }
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_refused() {
        for (protocol, address) in [(Protocol::Tcp, "203.0.113.9"), (Protocol::Udp, "2001:db8::9")] {
            let target = "127.0.0.1:80".parse().unwrap();
            let error = Forward::open(&listen(protocol, address), target)
                .await
                .err()
                .unwrap();
            assert!(matches!(error, PortError::NoSuchAddress { .. }), "{error}");
        }
    }
}
