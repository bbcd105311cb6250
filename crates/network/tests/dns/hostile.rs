//! Clients that want to do harm.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::outside::{outside, silent};
use crate::place::{A, B, Place, place, question, say, short, socket};

/// What of this process is in memory, in MiB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4 / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_takes_no_memory_and_nobody_elses_answers() {
    let (place, outside) = (place().await, outside().await);
    let (silent, address) = silent().await;
    place.forward_to(&[address]);
    let before = resident();
    let flood = socket(A).await;
    for number in 0..10_000_u16 {
        let message = question(number, &format!("n{number}.test."), RecordType::A, None);
        flood.send_to(&message, place.address()).await.unwrap();
        if number % 500 == 0 {
            // The flood is not to end in the buffer of the socket, where nobody counts.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let start = Instant::now();
    assert_eq!(short(place.address(), B, "web AAAA").await, ["fd00::1"]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let taken = place.said.forwarded.lock().unwrap().len();
    assert!(taken > 5_000, "most of the flood was looked at: {taken}");
    // The other one's questions are handed on, too.
    place.forward_to(&[outside.address]);
    assert_eq!(short(place.address(), B, "host.test A").await, ["192.0.2.10"]);
    let grown = resident().saturating_sub(before);
    assert!(grown < 16, "{grown} MiB more");
    // What came of it outside: the questions that the client may have under way.
    let mut asked = 0;
    while silent.try_recv_from(&mut [0; 512]).is_ok() {
        asked += 1;
    }
    assert!((1..=64).contains(&asked), "{asked} questions went out");
    // Its places are free again when nobody answered.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(short(place.address(), A, "host.test A").await, ["192.0.2.10"]);
}

async fn connect(place: &Place, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect(place.address()).await.unwrap()
}

/// Whether the other side closes a connection within a time.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    timeout(within, stream.read(&mut [0; 16])).await.is_ok()
}

#[tokio::test]
async fn connections_of_one_client_are_few_and_do_not_stay_silent() {
    let place = place().await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(connect(&place, A).await);
    }
    let start = Instant::now();
    let mut open = Vec::new();
    for mut stream in streams {
        if !closes(&mut stream, Duration::from_millis(20)).await {
            open.push(stream);
        }
    }
    assert!((8..=16).contains(&open.len()), "{} are open", open.len());
    assert_eq!(short(place.address(), B, "+tcp web AAAA").await, ["fd00::1"]);
    // A byte now and then is no question.
    open[0].write_all(&[0]).await.unwrap();
    for stream in &mut open {
        assert!(closes(stream, Duration::from_secs(12)).await);
    }
    assert!(start.elapsed() > Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(short(place.address(), A, "+tcp web AAAA").await, ["fd00::1"]);
}

#[tokio::test]
async fn many_questions_in_one_segment_are_answered_one_by_one() {
    let place = place().await;
    let mut stream = connect(&place, A).await;
    let mut bytes = Vec::new();
    for id in 0..20 {
        let message = question(id, "web.", RecordType::AAAA, None);
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    stream.write_all(&bytes).await.unwrap();
    for id in 0..20 {
        let mut message = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut message).await.unwrap();
        let answer = Message::from_vec(&message).unwrap();
        assert_eq!((answer.id, answer.answers.len()), (id, 1));
    }
    // One that is too long is not even read.
    stream.write_all(&[0xff, 0xff]).await.unwrap();
    assert!(closes(&mut stream, Duration::from_secs(2)).await);
}

#[tokio::test]
async fn what_is_no_question_is_not_talked_to() {
    let place = place().await;
    let wait = Duration::from_millis(200);
    let mut answer = question(5, "web.", RecordType::A, None);
    answer[2] |= 0x80;
    for silence in [&b""[..], b"short", &answer] {
        assert_eq!(say(place.address(), A, silence, wait).await, None);
    }
    // 65,535 questions in twelve bytes, and one that ends too early.
    let many = [0, 9, 1, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0];
    let cut = &question(9, "web.", RecordType::A, None)[..14];
    for broken in [&many[..], cut] {
        let error = say(place.address(), A, broken, wait).await.unwrap();
        assert_eq!((error.len(), error[1], error[3] & 0xf), (12, 9, 1), "{error:?}");
    }
}
