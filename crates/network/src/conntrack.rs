//! What the kernel remembers of connections (nf_conntrack), over netlink.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, Tuple};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use tokio::time::timeout;

/// For how long the kernel's answers are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How messages are aligned (`NLMSG_ALIGNTO`), and the length of their headers, in bytes.
const ALIGNMENT: usize = 4;
const HEADER: usize = 16;

/// Has the kernel forget the connections of these addresses, in the network namespace of this thread: who gets one of them next is
/// not to go on with them. Answers how many there were.
pub(crate) async fn forget(addresses: &HashSet<IpAddr>) -> io::Result<usize> {
    let forgotten = timeout(PATIENCE, async {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        let connections = list(&mut socket, addresses).await?;
        for connection in &connections {
            remove(&mut socket, connection).await?;
        }
        Ok(connections.len())
    });
    forgotten
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A connection, by how its first packet was addressed.
struct Connection {
    family: NetfilterProtoFamily,
    original: Vec<Tuple>,
}

/// The connections that one of these addresses has an end of.
async fn list(socket: &mut TokioSocket, addresses: &HashSet<IpAddr>) -> io::Result<Vec<Connection>> {
    let all = ConntrackMessage::Get(Vec::new());
    send(socket, NetfilterProtoFamily::Unspec, all, NLM_F_DUMP).await?;
    let mut found = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full().await?;
        for payload in payloads(&bytes)? {
            match payload {
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    header,
                    inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
                    ..
                }) => found.extend(connection(header.family, attributes, addresses)),
                _ => {}
            }
        }
    }
}

/// The connection that the kernel tells of, if it is one of these addresses'. An address that was translated shows in the
/// replies.
fn connection(
    family: NetfilterProtoFamily,
    attributes: Vec<ConntrackAttribute>,
    addresses: &HashSet<IpAddr>,
) -> Option<Connection> {
    let (mut original, mut is_theirs) = (None, false);
    for attribute in attributes {
        let tuples = match attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => original.insert(tuples),
            ConntrackAttribute::CtaTupleReply(ref tuples) => tuples,
            _ => continue,
        };
        is_theirs |= ends(tuples).any(|end| addresses.contains(&end));
    }
    let original = original.filter(|_| is_theirs)?;
    Some(Connection { family, original })
}

fn ends(tuples: &[Tuple]) -> impl Iterator<Item = IpAddr> {
    let addresses = tuples.iter().filter_map(|tuple| match tuple {
        Tuple::Ip(addresses) => Some(addresses),
        _ => None,
    });
    addresses.flatten().filter_map(|address| match address {
        IPTuple::SourceAddress(address) | IPTuple::DestinationAddress(address) => Some(*address),
        _ => None,
    })
}

async fn remove(socket: &mut TokioSocket, connection: &Connection) -> io::Result<()> {
    let original = ConntrackAttribute::CtaTupleOrig(connection.original.clone());
    let message = ConntrackMessage::Delete(vec![original]);
    send(socket, connection.family, message, NLM_F_ACK).await?;
    let (bytes, _) = socket.recv_from_full().await?;
    for payload in payloads(&bytes)? {
        if let NetlinkPayload::Error(error) = payload {
            let refused = error.code.is_some() && error.to_io().kind() != io::ErrorKind::NotFound;
            // One that is over meanwhile is as good.
            return if refused { Err(error.to_io()) } else { Ok(()) };
        }
    }
    Err(io::Error::other("the kernel's answer is none"))
}

async fn send(
    socket: &mut TokioSocket,
    family: NetfilterProtoFamily,
    message: ConntrackMessage,
    flags: u16,
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes).await.map(drop)
}

/// The messages in what the kernel said.
fn payloads(mut bytes: &[u8]) -> io::Result<Vec<NetlinkPayload<NetfilterMessage>>> {
    let mut payloads = Vec::new();
    while bytes.len() >= HEADER {
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(bytes).map_err(io::Error::other)?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        payloads.push(message.payload);
        let end = length.max(HEADER).checked_next_multiple_of(ALIGNMENT);
        bytes = end.and_then(|end| bytes.get(end..)).unwrap_or_default();
    }
    Ok(payloads)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use super::*;

    fn run(program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {arguments:?}: {said}");
    }

    #[tokio::test]
    async fn connections_of_an_address_are_forgotten_and_no_others() {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED: no network namespace: {error}");
            return;
        }
        run("ip", &["link", "set", "lo", "up"]);
        // The kernel remembers connections where a rule asks for them.
        run(
            "nft",
            &[
                "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new",
            ],
        );
        let ends = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0", "[::1]:0"];
        for end in ends {
            let socket = UdpSocket::bind(end).unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            // Another one, so that each address has two.
            let again = UdpSocket::bind(end).unwrap();
            again.send_to(b"x", again.local_addr().unwrap()).unwrap();
        }
        let set = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(forget(&set(&["127.0.0.9"])).await.unwrap(), 0);
        assert_eq!(forget(&set(&["127.0.0.1", "::1"])).await.unwrap(), 4);
        assert_eq!(forget(&set(&["127.0.0.1", "::1"])).await.unwrap(), 0);
        assert_eq!(forget(&set(&["127.0.0.2", "127.0.0.3"])).await.unwrap(), 4);
    }
}
