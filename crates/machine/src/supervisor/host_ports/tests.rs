//! Both ends of the link, the host's and the VM's in a network namespace each, as in life: a port is bound on both sides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkUnspec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;
use crate::agent::host_ports::{HostPorts as Agent, connect};
use crate::link::{LinkEnd, link};

/// What the VM's programs listen on, on all of its addresses.
const ECHO: u16 = 7000;
const SILENT: u16 = 7001;
/// On 127.0.0.2 alone.
const ON_ANOTHER_LOOPBACK: u16 = 7002;
const NOBODY: u16 = 7003;
const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// The host's end, in the thread of the test.
struct Host {
    socket: PathBuf,
    _ports: HostPorts,
    vm: Option<Vm>,
    _folder: tempfile::TempDir,
}

struct Vm {
    _stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F) {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("SKIPPED: no network namespace: {error}");
        return;
    }
    crate::supervisor::confine::raise_file_limit();
    block_on(async {
        bring_up_loopback(&ADDRESSES).await;
        let (ours, theirs) = BlockingUnixStream::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("made/host-ports.sock");
        let vm = start_vm(theirs, &socket).await;
        ours.set_nonblocking(true).unwrap();
        let (opener, _accepted, driver) = link(UnixStream::from_std(ours).unwrap(), LinkEnd::Host);
        tokio::spawn(driver);
        let host = Host {
            socket,
            _ports: HostPorts::serve(opener),
            vm: Some(vm),
            _folder: folder,
        };
        timeout(Duration::from_secs(60), test(host)).await.unwrap();
    });
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future);
}

async fn bring_up_loopback(addresses: &[&str]) {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let up = LinkUnspec::new_with_index(1).up().build();
    handle.link().change(up).execute().await.unwrap();
    for address in addresses {
        let address: IpAddr = address.parse().unwrap();
        handle.address().add(1, address, 32).execute().await.unwrap();
    }
}

async fn start_vm(channel: BlockingUnixStream, socket: &Path) -> Vm {
    let socket = socket.to_owned();
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        block_on(async {
            bring_up_loopback(&[]).await;
            channel.set_nonblocking(true).unwrap();
            let (_opener, mut accepted, driver) =
                link(UnixStream::from_std(channel).unwrap(), LinkEnd::Guest);
            tokio::spawn(driver);
            tokio::spawn(programs());
            let agent = Agent::new();
            agent.listen(&socket).unwrap();
            ready.send(()).unwrap();
            let serve = async {
                while let Some(stream) = accepted.recv().await {
                    tokio::spawn(answer(agent.clone(), stream));
                }
            };
            tokio::select! {
                () = serve => {}
                _ = stopped => {}
            }
        });
    });
    is_ready.await.unwrap();
    Vm { _stop: stop, thread }
}

async fn answer(agent: Agent, mut stream: LinkStream) {
    match Message::receive(&mut stream).await.unwrap() {
        Some(Message::Request(Request::HostPorts)) => agent.carry(stream).await.unwrap_or_default(),
        Some(Message::Request(Request::Connect(port))) => connect(stream, &port).await.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

/// hulld, as far as a port is concerned.
async fn programs() {
    let mut programs = JoinSet::new();
    for address in ["127.0.0.1", "[::1]"] {
        let bind = |port: u16| format!("{address}:{port}");
        programs.spawn(echo_stream(TcpListener::bind(bind(ECHO)).await.unwrap()));
        programs.spawn(echo_datagrams(UdpSocket::bind(bind(ECHO)).await.unwrap()));
    }
    let another = ("127.0.0.2", ON_ANOTHER_LOOPBACK);
    programs.spawn(echo_stream(TcpListener::bind(another).await.unwrap()));
    let silent = TcpListener::bind(("127.0.0.1", SILENT)).await.unwrap();
    programs.spawn(async move {
        let mut held = Vec::new();
        while let Ok(client) = silent.accept().await {
            held.push(client);
        }
    });
    while programs.join_next().await.is_some() {}
}

/// Answers with all that came, once the client has said all.
async fn echo_stream(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut all = Vec::new();
            if client.read_to_end(&mut all).await.is_ok() {
                // The client may be gone.
                let _ = client.write_all(&all).await;
            }
        });
    }
}

/// Answers with what came and who sent it.
async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let mut answer = buffer[..length].to_vec();
        answer.extend_from_slice(&from.port().to_le_bytes());
        socket.send_to(&answer, from).await.unwrap();
    }
}

impl Host {
    /// Ask for a port as hulld does: the connection, and the answer.
    async fn ask(&self, line: &str) -> (UnixStream, serde_json::Value) {
        let mut client = UnixStream::connect(&self.socket).await.unwrap();
        client.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        (client, serde_json::from_slice(&answer).unwrap())
    }

    async fn publish(&self, protocol: &str, address: &str, port: u16) -> UnixStream {
        let (client, answer) = self.ask(&request(protocol, address, port)).await;
        assert_eq!(
            answer,
            serde_json::json!({"ok": true}),
            "{address}:{port}/{protocol}"
        );
        client
    }

    async fn refused(&self, line: &str) -> (String, String) {
        let (_, answer) = self.ask(line).await;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        (text("kind"), text("error"))
    }
}

fn request(protocol: &str, address: &str, port: u16) -> String {
    serde_json::json!({"protocol": protocol, "address": address, "port": port}).to_string()
}

/// All that comes back for what is said, after the end of what is said.
async fn exchange(to: &str, said: &[u8]) -> io::Result<Vec<u8>> {
    let client = TcpStream::connect(to).await?;
    let (mut from, mut to) = client.into_split();
    let say = async {
        to.write_all(said).await?;
        to.shutdown().await
    };
    let mut heard = Vec::new();
    let (said, read) = tokio::join!(say, from.read_to_end(&mut heard));
    said.and(read).map(|_| heard)
}

#[test]
fn connections_cross_in_both_directions_and_the_end_of_one_leaves_the_other() {
    run(|host| async move {
        let all: Vec<u8> = (0..3u32 << 20).map(|i| i.wrapping_mul(31) as u8).collect();
        let _held = host.publish("tcp", "0.0.0.0", ECHO).await;
        // Both kinds of addresses at a time.
        let _held_too = host.publish("tcp", "::", ECHO).await;
        for to in ["127.0.0.1:7000", "192.0.2.1:7000", "[::1]:7000"] {
            assert!(exchange(to, &all).await.unwrap() == all, "{to}");
        }
    });
}

#[test]
fn a_loopback_address_is_the_same_in_the_vm_and_is_no_other_on_the_host() {
    run(|host| async move {
        let _held = host.publish("tcp", "127.0.0.2", ON_ANOTHER_LOOPBACK).await;
        assert_eq!(exchange("127.0.0.2:7002", b"hello").await.unwrap(), b"hello");
        let error = exchange("192.0.2.1:7002", b"hello").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn datagrams_cross_and_are_answered_from_the_address_that_was_asked() {
    run(|host| async move {
        let _held = host.publish("udp", "0.0.0.0", ECHO).await;
        let _held_too = host.publish("udp", "::", ECHO).await;
        // A host that talks to itself would answer from the client's own address.
        for (from, to) in [
            ("192.0.2.2", "192.0.2.1:7000"),
            ("127.0.0.1", "127.0.0.1:7000"),
            ("::1", "[::1]:7000"),
        ] {
            let from: IpAddr = from.parse().unwrap();
            let client = UdpSocket::bind(SocketAddr::new(from, 0)).await.unwrap();
            client.connect(to).await.unwrap();
            let mut senders = Vec::new();
            for length in [5, 0, 60_000] {
                client.send(&vec![7; length]).await.unwrap();
                let mut answer = vec![0; 65_536];
                let answered = timeout(Duration::from_secs(10), client.recv(&mut answer)).await;
                let answered = answered.expect("no answer").unwrap();
                assert_eq!(answered, length + 2, "{to}");
                assert!(answer[..length].iter().all(|&byte| byte == 7));
                senders.push(answer[length..answered].to_vec());
            }
            // One client outside is one inside.
            assert!(senders.iter().all(|sender| *sender == senders[0]), "{senders:?}");
        }
    });
}

#[test]
fn more_clients_than_may_be_are_answered_one_after_the_other() {
    run(|host| async move {
        let _held = host.publish("udp", "127.0.0.1", ECHO).await;
        let mut clients = Vec::new();
        let mut buffer = [0; 64];
        for _ in 0..MAX_STREAMS_OF_PORT + 20 {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.connect(("127.0.0.1", ECHO)).await.unwrap();
            client.send(b"x").await.unwrap();
            let answered = timeout(Duration::from_secs(10), client.recv(&mut buffer)).await;
            assert_eq!(answered.expect("no answer").unwrap(), 3);
            clients.push(client);
        }
        // Its stream was given to another one.
        clients[0].send(b"again").await.unwrap();
        let answered = timeout(Duration::from_secs(10), clients[0].recv(&mut buffer)).await;
        assert_eq!(answered.expect("no answer").unwrap(), 7);
    });
}

#[test]
fn a_port_that_cannot_be_had_is_refused_with_the_reason() {
    run(|host| async move {
        let _taken = TcpListener::bind("192.0.2.1:8080").await.unwrap();
        let (kind, error) = host.refused(&request("tcp", "0.0.0.0", 8080)).await;
        assert_eq!(kind, "in-use");
        assert!(
            error.starts_with("cannot listen on 0.0.0.0:8080/tcp on the host: "),
            "{error}"
        );
        assert!(error.contains("another program has it"), "{error}");
        let _held = host.publish("udp", "0.0.0.0", 8080).await;
        let (kind, _) = host.refused(&request("udp", "127.0.0.1", 8080)).await;
        assert_eq!(kind, "in-use");
        let (kind, error) = host.refused(&request("tcp", "198.51.100.9", 8080)).await;
        assert_eq!(kind, "no-address", "{error}");
        for line in [&request("tcp", "0.0.0.0", 0), "{}", "", r#"{"protocol":"sctp"}"#] {
            let (kind, error) = host.refused(line).await;
            assert_eq!(kind, "other", "{line}: {error}");
            assert!(!error.is_empty());
        }
        let denied = PortRefusal::from(BindError::Refused {
            port: serde_json::from_str(&request("tcp", "0.0.0.0", 80)).unwrap(),
            source: io::ErrorKind::PermissionDenied.into(),
        });
        assert_eq!(denied.kind, RefusalKind::Denied);
        assert!(
            denied.error.contains("ip_unprivileged_port_start"),
            "{}",
            denied.error
        );
    });
}

#[test]
fn a_port_is_free_when_its_connection_has_ended_and_its_clients_are_cut_off() {
    run(|host| async move {
        for protocol in ["tcp", "udp"] {
            let mut held = host.publish(protocol, "127.0.0.1", SILENT).await;
            let mut client = TcpStream::connect(("127.0.0.1", SILENT)).await;
            held.shutdown().await.unwrap();
            let mut rest = Vec::new();
            held.read_to_end(&mut rest).await.unwrap();
            if let Ok(client) = &mut client {
                let ended = timeout(Duration::from_secs(10), client.read(&mut [0])).await;
                assert!(!matches!(ended.unwrap(), Ok(1..)));
            }
            UdpSocket::bind(("127.0.0.1", SILENT)).await.unwrap();
            // Asked for at once, without a wait in between.
            drop(host.publish(protocol, "127.0.0.1", SILENT).await);
            until_refused(SILENT).await;
        }
    });
}

#[test]
fn ports_go_with_the_agent() {
    run(|mut host| async move {
        let _held = host.publish("tcp", "127.0.0.1", ECHO).await;
        assert_eq!(exchange("127.0.0.1:7000", b"x").await.unwrap(), b"x");
        let Vm { _stop, thread } = host.vm.take().unwrap();
        drop(_stop);
        thread.join().unwrap();
        until_refused(ECHO).await;
    });
}

async fn until_refused(port: u16) {
    let refused = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), refused).await.unwrap();
}

#[test]
fn a_connection_that_nobody_takes_in_the_vm_is_reset() {
    run(|host| async move {
        let _held = host.publish("tcp", "127.0.0.1", NOBODY).await;
        let mut client = TcpStream::connect(("127.0.0.1", NOBODY)).await.unwrap();
        let error = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_flood_of_connections_to_one_port_leaves_the_others() {
    run(|host| async move {
        let _flooded = host.publish("tcp", "127.0.0.1", SILENT).await;
        let _other = host.publish("tcp", "127.0.0.1", ECHO).await;
        let mut flood = Vec::new();
        for _ in 0..MAX_STREAMS_OF_PORT + 100 {
            flood.push(TcpStream::connect(("127.0.0.1", SILENT)).await.unwrap());
        }
        assert_eq!(exchange("127.0.0.1:7000", b"hello").await.unwrap(), b"hello");
    });
}
