//! Connections through real sockets.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::sys::socket::{Backlog, listen as listen_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::Protocol;
use crate::ports::testing::{forward, forward_with, listen, loopback};
use crate::ports::{Forward, Listen};

async fn container() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.9:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A container that gives back what it gets until it is told the end.
async fn echo() -> (JoinHandle<()>, SocketAddr) {
    let (listener, address) = container().await;
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    (task, address)
}

async fn client(forward: &Forward) -> TcpStream {
    TcpStream::connect(("127.0.0.1", forward.port())).await.unwrap()
}

fn is_reset(result: io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn each_side_may_end_before_the_other() {
    let (listener, address) = container().await;
    let forward = forward(Protocol::Tcp, address).await;

    let (mut near, (mut far, _)) = (client(&forward).await, listener.accept().await.unwrap());
    let mut text = String::new();
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    far.read_to_string(&mut text).await.unwrap();
    far.write_all(b"answer").await.unwrap();
    drop(far);
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "questionanswer");

    let (mut near, (mut far, _)) = (client(&forward).await, listener.accept().await.unwrap());
    let mut text = String::new();
    far.write_all(b"greeting").await.unwrap();
    far.shutdown().await.unwrap();
    near.read_to_string(&mut text).await.unwrap();
    near.write_all(b"reply").await.unwrap();
    drop(near);
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "greetingreply");
}

#[tokio::test]
async fn an_ipv6_client_reaches_an_ipv4_container() {
    if !loopback("::1") {
        return;
    }
    let (_task, address) = echo().await;
    let forward = Forward::open(&listen(Protocol::Tcp, "::1"), address)
        .await
        .unwrap();
    let mut near = TcpStream::connect(("::1", forward.port())).await.unwrap();
    near.write_all(b"six").await.unwrap();
    let mut text = [0; 3];
    near.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"six");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_connections_keep_their_bytes_apart() {
    let (_task, address) = echo().await;
    let forward = forward(Protocol::Tcp, address).await;
    let mut clients = JoinSet::new();
    for number in 0..100_usize {
        let near = client(&forward).await;
        clients.spawn(async move {
            let sent: Vec<u8> = (0..200_000).map(|index| (index * 7 + number) as u8).collect();
            let (mut reader, mut writer) = near.into_split();
            let writing = tokio::spawn({
                let sent = sent.clone();
                async move {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                }
            });
            let mut got = Vec::new();
            reader.read_to_end(&mut got).await.unwrap();
            writing.await.unwrap();
            assert!(got == sent, "connection {number}");
        });
    }
    let results = clients.join_all().await;
    assert_eq!(results.len(), 100);
}

#[tokio::test]
async fn a_client_is_reset_at_once_when_the_container_refuses() {
    let (listener, address) = container().await;
    drop(listener);
    let forward = forward(Protocol::Tcp, address).await;
    let asked = Instant::now();
    let mut near = client(&forward).await;
    assert!(is_reset(near.read(&mut [0]).await));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_client_is_reset_when_the_container_does_not_accept_in_time() {
    let (listener, address) = container().await;
    // With one connection in a backlog of none, the kernel does not answer further ones.
    listen_with(&listener.as_fd(), Backlog::new(0).unwrap()).unwrap();
    let _queued = TcpStream::connect(address).await.unwrap();
    let limits = Limits {
        connect: Duration::from_millis(200),
        ..Limits::default()
    };
    let forward = forward_with(Protocol::Tcp, address, limits).await;
    let asked = Instant::now();
    let mut near = client(&forward).await;
    assert!(is_reset(near.read(&mut [0]).await));
    let took = asked.elapsed();
    assert!(took >= limits.connect && took < limits.connect * 5, "{took:?}");
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let (listener, address) = container().await;
    let forward = forward(Protocol::Tcp, address).await;
    for container_resets in [true, false] {
        let (near, (far, _)) = (client(&forward).await, listener.accept().await.unwrap());
        let (resetting, mut told) = match container_resets {
            true => (far, near),
            false => (near, far),
        };
        told.write_all(b"unread").await.unwrap();
        linger(&resetting, true).unwrap();
        drop(resetting);
        assert!(
            is_reset(told.read(&mut [0]).await),
            "container resets: {container_resets}"
        );
    }
}

#[tokio::test]
async fn a_flood_waits_outside() {
    let (_task, address) = echo().await;
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let forward = forward_with(Protocol::Tcp, address, limits).await;
    let mut inside = Vec::new();
    let mut byte = [0];
    for _ in 0..2 {
        let mut near = client(&forward).await;
        near.write_all(b"x").await.unwrap();
        near.read_exact(&mut byte).await.unwrap();
        inside.push(near);
    }
    let mut waiting = client(&forward).await;
    waiting.write_all(b"y").await.unwrap();
    let early = timeout(Duration::from_millis(200), waiting.read_exact(&mut byte)).await;
    assert!(early.is_err(), "a third connection is served");
    drop(inside.pop());
    waiting.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"y");
}

#[tokio::test]
async fn dropping_it_frees_the_port_and_ends_the_connections() {
    let (_task, address) = echo().await;
    let forward = forward(Protocol::Tcp, address).await;
    let mut byte = [0];
    let mut near = client(&forward).await;
    near.write_all(b"x").await.unwrap();
    near.read_exact(&mut byte).await.unwrap();
    let port = forward.port();
    drop(forward);
    let again = Listen {
        port,
        ..listen(Protocol::Tcp, "127.0.0.1")
    };
    Forward::open(&again, address).await.unwrap();
    assert!(is_reset(near.read(&mut byte).await));
}

#[test]
fn a_lack_of_descriptors_is_waited_out_and_a_lost_client_is_not() {
    let error = io::Error::from_raw_os_error;
    for lasting in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert!(!is_of_the_client(&error(lasting)), "{lasting}");
    }
    assert!(is_of_the_client(&error(libc::ECONNABORTED)));
}
