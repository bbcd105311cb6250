//! What the tests of ports share.

use std::future::Future;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Forward, Limits, Listen};
use crate::Protocol;

/// A port of this address that the kernel chooses.
pub(super) fn listen(protocol: Protocol, address: &str) -> Listen {
    Listen {
        protocol,
        address: address.parse().unwrap(),
        port: 0,
    }
}

/// A port of 127.0.0.1 that leads to `target`.
pub(super) async fn forward(protocol: Protocol, target: SocketAddr) -> Forward {
    forward_with(protocol, target, Limits::default()).await
}

/// The same with other limits.
pub(super) async fn forward_with(protocol: Protocol, target: SocketAddr, limits: Limits) -> Forward {
    let listen = listen(protocol, "127.0.0.1");
    Forward::open_with(&listen, target, limits).await.unwrap()
}

/// Whether this host has such a loopback address; says so where it has none.
pub(super) fn loopback(address: &str) -> bool {
    let there = UdpSocket::bind((address, 0)).is_ok();
    if !there {
        eprintln!("SKIPPED: this host has no address {address}");
    }
    there
}

/// Runs a test in a network namespace of its own, where it may make one: its loopback has `address`, too, and nobody else has
/// any of its ports. It runs in a thread of its own, so that no other test finds itself in there.
pub(super) fn in_namespace<F: Future<Output = ()>>(address: &str, test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let ran = scope.spawn(|| {
            if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                eprintln!("SKIPPED: no network namespace: {error}");
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                bring_loopback_up(address.parse().unwrap()).await;
                test().await;
            });
        });
        if let Err(panic) = ran.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn bring_loopback_up(address: IpAddr) {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    let connection = tokio::spawn(connection);
    // The loopback device is the first of every namespace.
    let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
    handle.link().set(up).execute().await.unwrap();
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    handle.address().add(1, address, prefix).execute().await.unwrap();
    // The kernel makes the route to an IPv6 address in the background.
    let mut tries = 0..200;
    while !reaches_itself(address).await {
        tries.next().expect("the kernel does not route the address");
    }
    connection.abort();
}

async fn reaches_itself(address: IpAddr) -> bool {
    let exchange = async {
        let socket = tokio::net::UdpSocket::bind((address, 0)).await?;
        socket.connect(socket.local_addr()?).await?;
        socket.send(b"x").await?;
        socket.recv(&mut [0]).await
    };
    let wait = Duration::from_millis(10);
    if let Ok(Ok(_)) = timeout(wait, exchange).await {
        return true;
    }
    sleep(wait).await;
    false
}
