//! Questions over TCP (RFC 7766).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::framing;
use super::question::Transport;
use super::serving::{Serving, Taken};

/// The longest question in bytes, as over UDP.
const MAX_QUESTION: usize = 4096;

/// For how long a connection may be silent, or not take its answer.
const IDLE: Duration = Duration::from_secs(10);

/// How long to wait after an error: there may be no descriptor left.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Answers those who connect until this is dropped.
pub(super) async fn serve(serving: Arc<Serving>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(AFTER_ERROR).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let client = serving.names.client(from.ip());
        // Who may not ask, or has too many connections, sees this one closed.
        let place = client.and_then(|client| serving.connections.take(&client));
        let Some(place) = place else { continue };
        let serving = Arc::clone(&serving);
        connections.spawn(async move {
            // However it ends, there is nobody left to tell.
            let _ = converse(&serving, stream, from.ip()).await;
            drop(place);
        });
    }
}

/// Answers one question after the other: a connection has one under way at most.
async fn converse(serving: &Serving, mut stream: TcpStream, from: IpAddr) -> io::Result<()> {
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let message = timeout(IDLE, framing::read(&mut stream, &mut buffer)).await??;
        let answer = match serving.take(from, Transport::Tcp, message) {
            Taken::Nothing => None,
            Taken::Answer(answer) => Some(answer),
            Taken::Ask(asking) => serving.ask(&asking).await,
        };
        // Who waits on a connection waits for its answer or its end.
        let answer = answer.ok_or(io::ErrorKind::InvalidData)?;
        timeout(IDLE, framing::write(&mut stream, &answer)).await??;
    }
}
