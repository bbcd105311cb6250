//! Datagrams through real sockets.

use std::net::IpAddr;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::Protocol;
use crate::ports::testing::{forward, forward_with, in_namespace, listen};
use crate::ports::{Forward, Listen};

const SOON: Duration = Duration::from_secs(2);
/// For what must not come.
const NEVER: Duration = Duration::from_millis(150);

/// Gives back what it gets.
async fn echo(socket: UdpSocket) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let _ = socket.send_to(&buffer[..length], from).await;
    }
}

async fn container() -> (JoinHandle<()>, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (tokio::spawn(echo(socket)), address)
}

/// A client that takes answers only from the address that it asks.
async fn client(address: IpAddr, port: u16) -> UdpSocket {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect((address, port)).await.unwrap();
    socket
}

async fn near(forward: &Forward) -> UdpSocket {
    client("127.0.0.1".parse().unwrap(), forward.port()).await
}

async fn receive(socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let length = timeout(within, socket.recv(&mut buffer)).await.ok()?.unwrap();
    Some(buffer[..length].to_vec())
}

async fn asks(socket: &UdpSocket, text: &[u8]) -> Option<Vec<u8>> {
    socket.send(text).await.unwrap();
    receive(socket, SOON).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_get_their_own_answers() {
    let (_task, address) = container().await;
    let forward = forward(Protocol::Udp, address).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(near(&forward).await);
    }
    for round in 0..3 {
        for (number, near) in clients.iter().enumerate() {
            near.send(format!("{number} in round {round}").as_bytes())
                .await
                .unwrap();
        }
        for (number, near) in clients.iter().enumerate() {
            let answer = receive(near, SOON).await.unwrap();
            assert_eq!(answer, format!("{number} in round {round}").into_bytes());
        }
    }
}

#[tokio::test]
async fn the_empty_and_the_longest_datagram_pass() {
    let (_task, address) = container().await;
    let forward = forward(Protocol::Udp, address).await;
    let near = near(&forward).await;
    for length in [0, 1, 65507] {
        let datagram: Vec<u8> = (0..length).map(|index| index as u8).collect();
        assert!(asks(&near, &datagram).await == Some(datagram), "{length} bytes");
    }
}

#[tokio::test]
async fn an_answer_comes_from_the_address_that_was_asked() {
    let (_task, address) = container().await;
    let forward = Forward::open(&listen(Protocol::Udp, "0.0.0.0"), address)
        .await
        .unwrap();
    for asked in ["127.0.0.1", "127.0.0.5"] {
        let near = client(asked.parse().unwrap(), forward.port()).await;
        assert_eq!(
            asks(&near, b"here").await.as_deref(),
            Some(&b"here"[..]),
            "{asked}"
        );
    }
    // One client is told from itself by where it sends to.
    let both = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for asked in ["127.0.0.6", "127.0.0.7"] {
        let asked: IpAddr = asked.parse().unwrap();
        both.send_to(b"x", (asked, forward.port())).await.unwrap();
        let (_, from) = timeout(SOON, both.recv_from(&mut [0])).await.unwrap().unwrap();
        assert_eq!(from, (asked, forward.port()).into());
    }
}

#[test]
fn an_answer_comes_from_the_ipv6_address_that_was_asked() {
    in_namespace("fd00::5", || async {
        let (_task, address) = container().await;
        let forward = Forward::open(&listen(Protocol::Udp, "::"), address)
            .await
            .unwrap();
        let near = UdpSocket::bind("[::1]:0").await.unwrap();
        near.connect(("fd00::5", forward.port())).await.unwrap();
        assert_eq!(asks(&near, b"six").await.as_deref(), Some(&b"six"[..]));
    });
}

#[tokio::test]
async fn a_container_may_be_late() {
    let far = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let address = far.local_addr().unwrap();
    drop(far);
    let forward = forward(Protocol::Udp, address).await;
    let near = near(&forward).await;
    for _ in 0..3 {
        near.send(b"refused").await.unwrap();
        assert_eq!(receive(&near, NEVER).await, None);
    }
    let _task = tokio::spawn(echo(UdpSocket::bind(address).await.unwrap()));
    assert_eq!(asks(&near, b"taken").await.as_deref(), Some(&b"taken"[..]));
}

/// The ports that a container sees, one for each flow: the client asks, and the container gives back nothing or something.
async fn seen(near: &UdpSocket, far: &UdpSocket, answers: bool) -> SocketAddr {
    near.send(b"x").await.unwrap();
    let (_, from) = timeout(SOON, far.recv_from(&mut [0])).await.unwrap().unwrap();
    if answers {
        far.send_to(b"y", from).await.unwrap();
        assert!(receive(near, SOON).await.is_some());
    }
    from
}

#[tokio::test]
async fn idle_flows_end_and_unanswered_ones_sooner() {
    let far = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let limits = Limits {
        idle: Duration::from_millis(1500),
        unanswered: Duration::from_millis(200),
        ..Limits::default()
    };
    let forward = forward_with(Protocol::Udp, far.local_addr().unwrap(), limits).await;
    let (silent, lively) = (near(&forward).await, near(&forward).await);
    let first = (seen(&silent, &far, false).await, seen(&lively, &far, true).await);
    sleep(Duration::from_millis(500)).await;
    // To the flow that is gone nothing can be sent; to the other one still.
    far.send_to(b"late", first.0).await.unwrap();
    far.send_to(b"late", first.1).await.unwrap();
    assert_eq!(receive(&lively, SOON).await.as_deref(), Some(&b"late"[..]));
    assert_eq!(receive(&silent, NEVER).await, None);
    assert_eq!(
        seen(&lively, &far, true).await,
        first.1,
        "a flow that is used stays"
    );
    sleep(Duration::from_millis(2200)).await;
    far.send_to(b"later", first.1).await.unwrap();
    assert_eq!(receive(&lively, NEVER).await, None);
    // Both may begin anew. The kernel tells the container of the refused ones first.
    let _ = far.try_recv(&mut [0]);
    seen(&silent, &far, true).await;
    seen(&lively, &far, true).await;
}

#[tokio::test]
async fn a_flow_too_many_takes_the_place_of_the_oldest() {
    let far = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let limits = Limits {
        flows: 2,
        ..Limits::default()
    };
    let forward = forward_with(Protocol::Udp, far.local_addr().unwrap(), limits).await;
    let clients = [near(&forward).await, near(&forward).await, near(&forward).await];
    let first = seen(&clients[0], &far, true).await;
    let second = seen(&clients[1], &far, true).await;
    assert_eq!(seen(&clients[0], &far, true).await, first);
    let third = seen(&clients[2], &far, true).await;
    far.send_to(b"gone", second).await.unwrap();
    assert_eq!(receive(&clients[1], NEVER).await, None);
    assert_eq!(seen(&clients[0], &far, true).await, first);
    assert_eq!(seen(&clients[2], &far, true).await, third);
}

#[tokio::test]
async fn dropping_it_frees_the_port_and_ends_the_flows() {
    let far = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let forward = forward(Protocol::Udp, far.local_addr().unwrap()).await;
    let near = near(&forward).await;
    let flow = seen(&near, &far, true).await;
    let again = Listen {
        port: forward.port(),
        ..listen(Protocol::Udp, "127.0.0.1")
    };
    drop(forward);
    let forward = Forward::open(&again, far.local_addr().unwrap()).await.unwrap();
    // Its port may be bound by somebody else.
    UdpSocket::bind(("127.0.0.1", flow.port())).await.unwrap();
    assert_eq!(forward.port(), again.port);
}
