//! The C library asks at a bridge that was just made.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use network::dns::{DNS_PORT, DnsServer};
use network::{Bridge, Links};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkUnspec;

use crate::place::Said;

/// In namespaces of its own: a bridge with both families, a server there, and a resolv.conf that names it.
#[test]
fn the_c_library_finds_a_container_at_a_bridge_that_was_just_made() {
    let test = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(ask_at_a_bridge());
    });
    test.join().unwrap();
}

async fn ask_at_a_bridge() {
    let gateways = ["10.77.0.1/24", "fd77::1/64"].map(|text| text.parse().unwrap());
    let bridge = Bridge {
        name: "hull-dns".to_owned(),
        addresses: gateways.to_vec(),
        mtu: 1500,
    };
    bring_up_loopback().await;
    Links::open().unwrap().make_bridge(&bridge).await.unwrap();
    let server = DnsServer::new(Arc::new(Said::default()));
    let mut listening = Vec::new();
    for gateway in gateways {
        let address = (gateway.addr(), DNS_PORT).into();
        listening.push(server.listen(address).await.unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let text = "nameserver 10.77.0.1\nsearch example.com\noptions ndots:0\n";
    fs::write(&file, text).unwrap();
    mount(
        Some(&file),
        "/etc/resolv.conf",
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    assert_eq!(getent("ahostsv4 web").await, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(getent("ahostsv6 WEB.").await, ["fd00::1"]);
    assert!(getent("ahosts empty").await.is_empty());
}

/// What the host sends to its own addresses goes there.
async fn bring_up_loopback() {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let up = LinkUnspec::new_with_index(1).up().build();
    handle.link().set(up).execute().await.unwrap();
}

/// The addresses that getent says.
async fn getent(words: &'static str) -> Vec<String> {
    let mut command = Command::new("getent");
    command.args(words.split(' '));
    // Started from this thread, which has the namespaces; waited for elsewhere, because the server is on this thread.
    let child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("getent runs");
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await;
    let text = String::from_utf8(output.unwrap().unwrap().stdout).unwrap();
    let mut addresses: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}
