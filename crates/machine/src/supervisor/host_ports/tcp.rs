//! A TCP port: each connection is a stream into the VM.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::{Carriage, MAX_STREAMS_OF_PORT, PAUSE};
use crate::link::splice;
use crate::ports::HostPort;
use crate::protocol::ProtocolError;

/// When a connection over which nothing comes is looked after, and how often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// Serve the port until dropped, and all of its connections with it.
pub(super) async fn serve(listener: TcpListener, port: HostPort, carriage: Carriage) {
    let mut connections = FuturesUnordered::new();
    // Accepted already, but without a permit. Those behind it wait in the kernel.
    let mut waiting = None;
    loop {
        let streams = Arc::clone(&carriage.streams);
        tokio::select! {
            client = accept(&listener), if waiting.is_none() && connections.len() < MAX_STREAMS_OF_PORT => {
                waiting = Some(client);
            }
            permit = streams.acquire_owned(), if waiting.is_some() => {
                if let (Some(client), Ok(permit)) = (waiting.take(), permit) {
                    connections.push(carry(client, &port, &carriage, permit));
                }
            }
            Some(()) = connections.next() => {}
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(e) => {
                eprintln!("cannot accept a connection to a published port: {e}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, port: &HostPort, carriage: &Carriage, _permit: OwnedSemaphorePermit) {
    // A line in the log for each would let anybody fill the host's disk.
    if join(&mut client, port, carriage).await.is_err() {
        // What broke on one side is not to look like an orderly end on the other.
        let _ = client.set_zero_linger();
    }
}

async fn join(client: &mut TcpStream, port: &HostPort, carriage: &Carriage) -> Result<(), ProtocolError> {
    prepare(client)?;
    let mut stream = carriage.open(port).await?;
    Ok(splice(client, &mut stream).await?)
}

fn prepare(client: &TcpStream) -> io::Result<()> {
    // What comes is passed on as it comes, and who vanished does not keep a permit.
    client.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(client, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(client, KEEPALIVE_EVERY)?;
    Ok(sockopt::set_socket_keepalive(client, true)?)
}
