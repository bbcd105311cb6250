//! What comes to a port of the host, connected to what listens in the VM.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::link::{LinkStream, splice};
use crate::ports::{HostPort, MAX_DATAGRAM, PortProtocol, datagrams};
use crate::protocol::{Message, ProtocolError};

/// How long a connection may take: the other end is in the VM.
const PATIENCE: Duration = Duration::from_secs(10);
/// A socket that is bound to this interface is for the VM's own loopback, not for the host's (see the module `loopback`).
const LOOPBACK: &[u8] = b"lo";

/// Carry one connection, or the datagrams of one client, until either end is gone.
pub(crate) async fn connect(mut stream: LinkStream, port: &HostPort) -> Result<(), ProtocolError> {
    let to = port.in_vm();
    let carried = match port.protocol {
        PortProtocol::Tcp => connect_tcp(to).await.map(Carried::Connection),
        PortProtocol::Udp => connect_udp(to).await.map(Carried::Datagrams),
    };
    let carried = match carried {
        Ok(carried) => carried,
        Err(e) => {
            let error = Message::Error(format!("cannot connect to {to} in the helper VM: {e}"));
            return error.send(&mut stream).await;
        }
    };
    Message::Connected.send(&mut stream).await?;
    // An error from here on is one side hanging up: the ordinary end of many connections.
    let _ = match carried {
        Carried::Connection(mut socket) => splice(&mut stream, &mut socket).await,
        Carried::Datagrams(socket) => exchange(stream, &socket).await,
    };
    Ok(())
}

enum Carried {
    Connection(TcpStream),
    Datagrams(UdpSocket),
}

async fn connect_tcp(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.bind_device(Some(LOOPBACK))?;
    let connected = timeout(PATIENCE, socket.connect(to)).await;
    let socket = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn connect_udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Pass datagrams on in both directions. The host ends this when the client is silent.
async fn exchange(stream: LinkStream, socket: &UdpSocket) -> io::Result<()> {
    let (from_host, to_host) = tokio::io::split(stream);
    let mut from_host = FramedRead::new(from_host, datagrams());
    let mut to_host = FramedWrite::new(to_host, datagrams());
    let inwards = async {
        while let Some(datagram) = from_host.next().await {
            // Nobody may be there to take it.
            let _ = socket.send(&datagram?).await;
        }
        Ok(())
    };
    let outwards = async {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            match socket.recv(&mut buffer).await {
                Ok(length) => to_host.send(Bytes::copy_from_slice(&buffer[..length])).await?,
                // Told once for each datagram that nobody took. Somebody may be there for the next.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(e) => return Err(e),
            }
        }
    };
    tokio::select! {
        result = inwards => result,
        result = outwards => result,
    }
}
