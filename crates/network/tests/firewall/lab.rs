//! A host with containers, each a network namespace of a thread; all is gone when the test ends.

use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use network::{Egress, EgressRule, EndpointRules, Firewall, NetworkRules, Protocol, Publication, Ruleset};

/// Within what an answer comes that comes at all, and what is no wait.
pub(crate) const SOON: Duration = Duration::from_millis(400);

/// Puts the calling thread into a network namespace of its own: the host.
pub(crate) fn host() -> bool {
    if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        eprintln!("SKIPPED: no network namespace: {error}");
        return false;
    }
    set_up_namespace();
    // Bridges hand what they forward to the rules of IP, if any other test or the kernel's default says so; most hosts do not.
    let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0");
    wait(network::enable_forwarding(true)).unwrap();
    true
}

fn set_up_namespace() {
    for setting in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{setting}/accept_dad"), "0").unwrap();
    }
    run("ip link set lo up");
}

/// Runs a future on this thread, in its namespace.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

/// Runs commands of a shell in the namespace of this thread.
pub(crate) fn run(commands: &str) -> String {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{commands}: {said}{errors}");
    said.into_owned()
}

/// Whether a command succeeds.
fn succeeds(command: &str) -> bool {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    output.status.success()
}

/// Applies rules to the host.
pub(crate) fn apply(ruleset: &Ruleset) {
    wait(Firewall::new().apply(ruleset)).unwrap();
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with one interface, `eth0`.
pub(crate) struct Machine {
    jobs: Sender<Job>,
}

impl Machine {
    /// Makes one whose interface is joined to an interface `peer` of the calling thread's namespace.
    pub(crate) fn new(peer: &str, mac: [u8; 6]) -> Self {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, started) = channel();
        thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            set_up_namespace();
            ready.send(nix::unistd::gettid()).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        let thread = started.recv().unwrap();
        let machine = Self { jobs };
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        run(&format!(
            "ip link add {peer} type veth peer name eth0 netns {thread}; ip link set {peer} up"
        ));
        machine.run(&format!("ip link set eth0 address {mac} up"));
        machine
    }

    /// Does something in its namespace.
    pub(crate) fn within<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || done.send(job()).unwrap());
        self.jobs.send(job).unwrap();
        result.recv().unwrap()
    }

    pub(crate) fn run(&self, commands: &str) -> String {
        let commands = commands.to_owned();
        self.within(move || run(&commands))
    }

    /// Whether an address answers.
    pub(crate) fn pings(&self, address: &str) -> bool {
        let command = format!("ping -c 1 -W 0.4 {address}");
        self.within(move || succeeds(&command))
    }

    /// A TCP server that tells everybody who they are.
    pub(crate) fn serve(&self, address: &str) {
        let listener = self.within({
            let address = address.to_owned();
            move || TcpListener::bind(address).unwrap()
        });
        serve(listener);
    }

    /// Who one is to a TCP server.
    pub(crate) fn calls(&self, address: &str) -> io::Result<IpAddr> {
        let address = address.to_owned();
        self.within(move || calls(&address))
    }

    /// What becomes of a datagram, whether the answer is one or an error.
    pub(crate) fn sends(&self, address: &str) -> io::Result<usize> {
        let address: SocketAddr = address.parse().unwrap();
        self.within(move || {
            let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(SOON))?;
            socket.connect(address)?;
            socket.send(b"?")?;
            socket.recv(&mut [0; 16])
        })
    }
}

/// Answers on a listener of any namespace.
pub(crate) fn serve(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            let _ = io::Write::write_all(&mut stream, peer.as_bytes());
        }
    });
}

/// Who this thread is to a TCP server.
pub(crate) fn calls(address: &str) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    let peer = io::read_to_string(&mut stream)?;
    Ok(peer.parse().unwrap())
}

/// That somebody was refused, and did not have to wait for it.
pub(crate) fn assert_refused<T: std::fmt::Debug>(attempt: impl FnOnce() -> io::Result<T>) {
    let begun = Instant::now();
    let error = attempt().unwrap_err();
    let quick = begun.elapsed() < SOON / 2;
    let told = !matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
    assert!(quick && told, "{error} after {:?}", begun.elapsed());
}

/// That somebody waited in vain.
pub(crate) fn assert_ignored<T: std::fmt::Debug>(attempt: io::Result<T>) {
    let error = attempt.unwrap_err();
    assert!(
        matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock),
        "{error}"
    );
}

pub(crate) fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

/// The rules of a network `172.N.0.0/24` and `fd00:N::/64`, whose bridge is made.
pub(crate) fn bridge(name: &str, number: u8) -> NetworkRules {
    run(&format!(
        "ip link add {name} type bridge; ip addr add 172.{number}.0.1/24 dev {name}; \
         ip addr add fd00:{number}::1/64 dev {name} nodad; ip link set {name} up"
    ));
    NetworkRules {
        bridge: name.into(),
        subnets: vec![
            format!("172.{number}.0.0/24").parse().unwrap(),
            format!("fd00:{number}::/64").parse().unwrap(),
        ],
        gateways: vec![
            format!("172.{number}.0.1").parse().unwrap(),
            format!("fd00:{number}::1").parse().unwrap(),
        ],
        internal: false,
        inter_container: true,
        masquerade: true,
    }
}

/// The rules of an endpoint `hulltN` with the addresses `172.net.0.N` and `fd00:net::N`.
pub(crate) fn endpoint(bridge: &str, net: u8, number: u8) -> EndpointRules {
    EndpointRules {
        tap: format!("hullt{number}"),
        bridge: bridge.into(),
        mac: mac(number),
        addresses: vec![
            format!("172.{net}.0.{number}").parse().unwrap(),
            format!("fd00:{net}::{number}").parse().unwrap(),
        ],
        egress: Egress::All,
    }
}

/// A machine that is the container of such an endpoint.
pub(crate) fn container(bridge: &str, net: u8, number: u8) -> Machine {
    let tap = format!("hullt{number}");
    let machine = Machine::new(&tap, mac(number));
    run(&format!("ip link set {tap} master {bridge}"));
    machine.run(&format!(
        "ip addr add 172.{net}.0.{number}/24 dev eth0; ip addr add fd00:{net}::{number}/64 dev eth0 nodad; \
         ip route add default via 172.{net}.0.1; ip route add default via fd00:{net}::1"
    ));
    machine
}

/// A machine beyond the host, at 192.0.2.2 and 2001:db8::2, which knows no way to containers; the host is at 192.0.2.1 and
/// 2001:db8::1.
pub(crate) fn outside() -> Machine {
    let machine = Machine::new("uplink", mac(200));
    run("ip addr add 192.0.2.1/24 dev uplink; ip addr add 2001:db8::1/64 dev uplink nodad");
    machine.run("ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad");
    machine
}

pub(crate) fn publication(host_port: u16, target: &str, bridge: &str) -> Publication {
    Publication {
        protocol: Protocol::Tcp,
        host: None,
        host_port,
        target: target.parse().unwrap(),
        bridge: bridge.into(),
    }
}

pub(crate) fn allow(destination: &str, protocol: Option<Protocol>, port: Option<u16>) -> EgressRule {
    EgressRule {
        destination: destination.parse().unwrap(),
        protocol,
        ports: port.map(|port| port..=port),
    }
}
