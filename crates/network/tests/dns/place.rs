//! A name server with two clients, and ways to ask it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use network::dns::{DnsServer, Forward, Listening, Names, Pinned};
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::time::timeout;

/// Where the two clients ask from; nobody knows `STRANGER`.
pub(crate) const A: &str = "127.0.0.2";
pub(crate) const B: &str = "127.0.0.3";
pub(crate) const STRANGER: &str = "127.0.0.4";

/// The number of addresses of the container `crowd`.
pub(crate) const CROWD: u8 = 200;

/// An answer that was shown: to whom, for which name, the addresses, how long they are good for.
pub(crate) type Seen = (String, String, Vec<IpAddr>, Duration);

/// What the tests say and what the server asked.
#[derive(Default)]
pub(crate) struct Said {
    /// What is done with questions about no container.
    pub(crate) forward: Mutex<Option<Forward>>,
    /// What was handed on: the client, the name, the type.
    pub(crate) forwarded: Mutex<Vec<(String, String, RecordType)>>,
    /// Which addresses clients may not be told.
    pub(crate) denied: Mutex<Vec<IpAddr>>,
    /// What was in answers from outside.
    pub(crate) pinned: Mutex<Vec<Seen>>,
    /// For how long it takes to decide about addresses.
    pub(crate) hesitation: Mutex<Duration>,
}

impl Names for Said {
    fn client(&self, address: IpAddr) -> Option<String> {
        let clients = [(A, "a"), (B, "b"), ("10.77.0.1", "host")];
        let found = clients.iter().find(|(from, _)| *from == address.to_string());
        found.map(|(_, client)| (*client).to_owned())
    }

    fn addresses(&self, client: &str, name: &str) -> Option<Vec<IpAddr>> {
        let texts: &[&str] = match (client, name) {
            (_, "web") => &["10.0.0.1", "10.0.0.2", "fd00::1"],
            (_, "empty") => &[],
            ("a", "secret") => &["10.0.9.9"],
            (_, "crowd") => return Some((0..CROWD).map(|n| [10, 1, 0, n].into()).collect()),
            _ => return None,
        };
        Some(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn name(&self, _: &str, address: IpAddr) -> Option<String> {
        let address = address.to_string();
        ["10.0.0.1", "fd00::1"]
            .contains(&address.as_str())
            .then(|| "web.mynet".to_owned())
    }

    fn forward(&self, client: &str, name: &str, kind: RecordType) -> Forward {
        let asked = (client.to_owned(), name.to_owned(), kind);
        self.forwarded.lock().unwrap().push(asked);
        let forward = self.forward.lock().unwrap().clone();
        forward.unwrap_or(Forward::Refuse)
    }

    fn pin<'a>(
        &'a self,
        client: &'a str,
        name: &'a str,
        mut addresses: Vec<IpAddr>,
        ttl: Duration,
    ) -> Pinned<'a> {
        let seen = (client.to_owned(), name.to_owned(), addresses.clone(), ttl);
        self.pinned.lock().unwrap().push(seen);
        addresses.retain(|address| !self.denied.lock().unwrap().contains(address));
        let hesitation = *self.hesitation.lock().unwrap();
        Box::pin(async move {
            tokio::time::sleep(hesitation).await;
            addresses
        })
    }
}

/// A server that listens.
pub(crate) struct Place {
    pub(crate) said: Arc<Said>,
    pub(crate) server: DnsServer,
    pub(crate) listening: Listening,
}

pub(crate) async fn place() -> Place {
    let said = Arc::new(Said::default());
    let server = DnsServer::new(said.clone());
    // The port that UDP got may be taken for TCP, by anybody.
    let mut tried = Vec::new();
    let listening = loop {
        match server.listen("127.0.0.1:0".parse().unwrap()).await {
            Ok(listening) => break listening,
            Err(error) => tried.push(error.to_string()),
        }
        assert!(tried.len() < 20, "{tried:?}");
    };
    Place {
        said,
        server,
        listening,
    }
}

impl Place {
    pub(crate) fn forward(&self, forward: Forward) {
        *self.said.forward.lock().unwrap() = Some(forward);
    }

    pub(crate) fn forward_to(&self, servers: &[SocketAddr]) {
        self.forward(Forward::To(servers.to_vec()));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// What dig says as the client at an address, with these words of its command line.
    pub(crate) async fn dig(&self, from: &str, words: &str) -> String {
        dig(self.address(), from, words).await
    }
}

pub(crate) async fn dig(server: SocketAddr, from: &str, words: &str) -> String {
    let output = Command::new("dig")
        .args(["-r", "-b", from, &format!("@{}", server.ip()), "-p"])
        .arg(server.port().to_string())
        .args(["+tries=1", "+timeout=8"])
        .args(words.split_whitespace())
        .output()
        .await
        .expect("dig of bind9-dnsutils runs");
    String::from_utf8(output.stdout).unwrap()
}

/// What dig says with `+short`, in an order of its own.
pub(crate) async fn short(server: SocketAddr, from: &str, words: &str) -> Vec<String> {
    let text = dig(server, from, &format!("+short {words}")).await;
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A question as bytes; with the length of answers that are taken, in EDNS.
pub(crate) fn question(id: u16, name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.edns = payload.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    message.to_vec().unwrap()
}

/// A socket of a client.
pub(crate) async fn socket(from: &str) -> UdpSocket {
    UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0))
        .await
        .unwrap()
}

/// The answer to one message, as bytes; nothing if there is none within `wait`.
pub(crate) async fn say(server: SocketAddr, from: &str, message: &[u8], wait: Duration) -> Option<Vec<u8>> {
    let socket = socket(from).await;
    socket.send_to(message, server).await.unwrap();
    let mut buffer = vec![0; 65536];
    let received = timeout(wait, socket.recv_from(&mut buffer)).await.ok()?;
    let (length, _) = received.unwrap();
    buffer.truncate(length);
    Some(buffer)
}
