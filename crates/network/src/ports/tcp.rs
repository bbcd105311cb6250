//! Connections to a port of the host, each carried on to its container.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Limits, PAUSE};

/// Bytes on their way, in one direction of a connection.
const BUFFER: usize = 16 << 10;

/// Seconds without a sign of life after which a peer is asked for one, and between two such questions (tcp(7)). A client whose
/// host is gone would hold its place for ever.
const KEEPALIVE: u32 = 60;
const KEEPALIVE_INTERVAL: u32 = 15;

/// Accepts connections for as long as this is polled, and carries them to `target`; dropping it ends them all.
pub(super) async fn serve(listener: TcpListener, target: SocketAddr, limits: Limits) {
    let most = limits.connections.max(1);
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        // Beyond the bound, clients wait in the backlog.
        let room = connections.len() < most;
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((client, _)) => {
                    failing = false;
                    connections.spawn(relay(client, target, limits.connect));
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    if !failing {
                        warn!(%target, %error, "a published port cannot accept connections for now");
                    }
                    failing = true;
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Whether accept(2) failed for one connection only: the next may be accepted at once. Others, as a lack of descriptors or of
/// memory, last, and the connection stays in the backlog.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Carries one connection. An end that both sides have agreed to is a polite one; any other is a reset of both, so that nobody
/// takes half of an answer for the whole.
async fn relay(mut client: TcpStream, target: SocketAddr, connect: Duration) {
    if prepare(&client).is_err() {
        return;
    }
    let mut container = match timeout(connect, TcpStream::connect(target)).await {
        Ok(Ok(container)) => container,
        Ok(Err(error)) => return debug!(%target, %error, "a container refuses a connection"),
        Err(_) => return debug!(%target, "a container does not accept a connection"),
    };
    if prepare(&container).is_err() {
        return;
    }
    let carried = copy_bidirectional_with_sizes(&mut client, &mut container, BUFFER, BUFFER).await;
    if carried.is_ok() {
        for side in [&client, &container] {
            // Where this fails the connection is gone already.
            let _ = linger(side, false);
        }
    }
}

/// Makes a connection one to carry: without delay, found out when its peer is gone, and reset when it is dropped.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    linger(stream, true)
}

/// Whether close(2) resets the connection, or sends in the background what is left (socket(7), `SO_LINGER` with a time of 0).
fn linger(stream: &TcpStream, reset: bool) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: i32::from(reset),
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &linger)?)
}

#[cfg(test)]
mod tests;
