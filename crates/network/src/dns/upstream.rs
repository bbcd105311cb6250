//! Asking the servers outside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Header, Message, MessageType, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::framing;

/// For how long servers are asked before it is said that there is no answer. The C libraries wait for 5 s before they ask again.
const ALL_SERVERS: Duration = Duration::from_millis(4500);

/// For how long one server is waited for, if another one can be asked.
const ONE_SERVER: Duration = Duration::from_secs(2);

/// When a question that went unanswered is sent once more: a packet may be lost.
const AGAIN: Duration = Duration::from_secs(1);

/// Room for an answer over UDP, in bytes: more than is asked for.
const UDP_ANSWER: usize = 4096;

/// Asks servers one after the other. If none has an answer, this is what the last one of them said, if any said anything.
pub(super) async fn ask(servers: &[SocketAddr], request: &Message) -> Option<Message> {
    let bytes = request.to_vec().ok()?;
    let end = Instant::now() + ALL_SERVERS;
    let mut said = None;
    for (index, server) in servers.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let is_last = index + 1 == servers.len();
        let time = if is_last { left } else { left.min(ONE_SERVER) };
        match timeout(time, ask_one(*server, request, &bytes)).await {
            Ok(Ok(answer)) if helps(&answer) => return Some(answer),
            Ok(Ok(answer)) => said = Some(answer),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    said
}

/// Reads what a server said.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    // As with questions, no room is made for 65,535 of them.
    let header = Header::read(&mut BinDecoder::new(bytes)).ok()?;
    if header.counts.queries > 1 || header.message_type != MessageType::Response {
        return None;
    }
    Message::from_vec(bytes).ok()
}

/// Whether another server would not know better.
fn helps(answer: &Message) -> bool {
    !matches!(
        answer.response_code,
        ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp
    )
}

/// Asks by UDP, and by TCP for what is too long. What fits in a packet is better than nothing.
async fn ask_one(server: SocketAddr, request: &Message, bytes: &[u8]) -> io::Result<Message> {
    let short = by_udp(server, request, bytes).await?;
    if !short.truncation {
        return Ok(short);
    }
    let whole = timeout(ONE_SERVER, by_tcp(server, request, bytes)).await;
    Ok(whole.ok().and_then(Result::ok).unwrap_or(short))
}

/// The port is one that the kernel picks at random. As the socket is connected, the kernel drops what anybody else sends, and
/// says at once that a server is not there.
async fn by_udp(server: SocketAddr, request: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    if let Ok(answer) = timeout(AGAIN, receive(&socket, request)).await {
        return answer;
    }
    socket.send(bytes).await?;
    receive(&socket, request).await
}

/// Waits for the answer, for as long as the caller does.
async fn receive(socket: &UdpSocket, request: &Message) -> io::Result<Message> {
    let mut buffer = vec![0; UDP_ANSWER];
    loop {
        // An ICMP error does not make a socket readable.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            let error = socket.take_error()?;
            return Err(error.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()));
        }
        match socket.try_recv(&mut buffer) {
            Ok(length) => {
                let answer = buffer.get(..length).and_then(read);
                if let Some(answer) = answer.filter(|answer| is_answer(answer, request)) {
                    return Ok(answer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn by_tcp(server: SocketAddr, request: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    framing::write(&mut stream, bytes).await?;
    let mut buffer = vec![0; u16::MAX.into()];
    let answer = read(framing::read(&mut stream, &mut buffer).await?);
    answer
        .filter(|answer| is_answer(answer, request))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether a message answers this request and no other (RFC 5452, 9.1). A question that a server could not read it need not
/// repeat.
fn is_answer(answer: &Message, request: &Message) -> bool {
    let is_unread = answer.queries.is_empty() && answer.response_code == ResponseCode::FormErr;
    answer.id == request.id
        && answer.op_code == request.op_code
        && (answer.queries == request.queries || is_unread)
}
