//! Questions over UDP.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::question::Transport;
use super::serving::{Asking, Serving, Taken};

/// The longest question in bytes. A name has 255; the rest is room for options.
const MAX_QUESTION: usize = 4096;

/// How long to wait after an error, which may be there again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Answers what comes until this is dropped. Answers about containers are given right here, so that they take no memory however
/// many are asked for.
pub(super) async fn serve(serving: Arc<Serving>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            sleep(AFTER_ERROR).await;
            continue;
        };
        while waiting.try_join_next().is_some() {}
        let message = buffer.get(..length).unwrap_or_default();
        match serving.take(from.ip(), Transport::Udp, message) {
            Taken::Nothing => {}
            Taken::Answer(answer) => send(&socket, &answer, from),
            Taken::Ask(asking) => {
                let (serving, socket) = (Arc::clone(&serving), Arc::downgrade(&socket));
                waiting.spawn(ask(serving, socket, asking, from));
            }
        }
    }
}

/// Holds no socket while it waits: the port is free as soon as nobody serves it.
async fn ask(serving: Arc<Serving>, socket: Weak<UdpSocket>, asking: Box<Asking>, from: SocketAddr) {
    let answer = serving.ask(&asking).await;
    if let (Some(answer), Some(socket)) = (answer, socket.upgrade()) {
        send(&socket, &answer, from);
    }
}

/// Never waits: who does not take its answers must not keep others from theirs. What is lost is asked for again.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    let _ = socket.try_send_to(answer, to);
}
