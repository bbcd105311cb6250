use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use tokio::net::TcpSocket;

use super::*;

/// Set for the process that connects: where to, and from which interface.
const TARGET: &str = "HULL_TEST_CONNECT_TO";
const DEVICE: &str = "HULL_TEST_FROM_DEVICE";
const THIS_TEST: &str =
    "agent::loopback::tests::connections_to_loopback_go_to_the_host_unless_bound_to_an_interface";

#[test]
fn connections_to_loopback_go_to_the_host_unless_bound_to_an_interface() {
    if let Ok(target) = std::env::var(TARGET) {
        return run(connect(target.parse().unwrap()));
    }
    let Some(group) = Group::make() else {
        eprintln!("SKIPPED: no control groups of version 2");
        return;
    };
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    run(bring_up());
    send_to_host_from(&group.0).unwrap();
    for (loopback, host) in [
        ("127.0.0.1:700", SocketAddr::from((HOST_V4, 700))),
        ("[::1]:700", SocketAddr::from((HOST_V6, 700))),
    ] {
        let here = TcpListener::bind(loopback).unwrap();
        let there = TcpListener::bind(host).unwrap();
        assert_eq!(
            group.connect(loopback, None),
            there.accept().unwrap().0.local_addr().unwrap()
        );
        let bound = group.connect(loopback, Some("lo"));
        assert_eq!(bound, here.accept().unwrap().0.local_addr().unwrap());
    }
}

async fn connect(target: SocketAddr) {
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.unwrap();
    if let Ok(device) = std::env::var(DEVICE) {
        socket.bind_device(Some(device.as_bytes())).unwrap();
    }
    let connected = socket.connect(target).await.unwrap();
    println!("peer={}", connected.peer_addr().unwrap());
}

/// The host's addresses are on this interface, too, so that it can be seen what goes to them.
async fn bring_up() {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
    handle.link().change(up).execute().await.unwrap();
    handle
        .address()
        .add(1, HOST_V4.into(), 32)
        .execute()
        .await
        .unwrap();
    handle
        .address()
        .add(1, HOST_V6.into(), 128)
        .execute()
        .await
        .unwrap();
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future);
}

/// A control group of this test, as the root of all groups is not for a test.
struct Group(PathBuf);

impl Group {
    fn make() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let target = fields.next()?;
            (fields.next()? == "cgroup2").then(|| target.to_owned())
        })?;
        let group = Path::new(&root).join(format!("hull-test-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        Some(Group(group))
    }

    /// Whom a process of the group reaches at this address.
    fn connect(&self, target: &str, device: Option<&str>) -> SocketAddr {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(self.0.join("cgroup.procs"))
            .arg(program)
            .args(["--exact", "--nocapture", THIS_TEST])
            .env(TARGET, target);
        if let Some(device) = device {
            command.env(DEVICE, device);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let peer = text.lines().find_map(|line| line.split_once("peer="));
        let (_, peer) = peer.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        peer.parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process has ended.
        let _ = fs::remove_dir(&self.0);
    }
}
