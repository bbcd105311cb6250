//! Questions that are handed on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A as Address;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use network::dns::Forward;

use crate::outside::{MANY, free_address, outside, saying, silent};
use crate::place::{A, B, Place, Seen, place, question, say, short};

const SOON: Duration = Duration::from_secs(2);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn records_of_all_types_pass_as_they_are() {
    let (place, outside) = (place().await, outside().await);
    place.forward_to(&[outside.address]);
    for words in [
        "host.test A",
        "host.test AAAA",
        "alias2.test A",
        "text.test TXT",
        "mail.test MX",
        "_http._tcp.test SRV",
        "naptr.test NAPTR",
        "caa.test CAA",
        "svc.test HTTPS",
        "odd.test TYPE65280",
        "+tcp host.test A",
        "+dnssec host.test A",
    ] {
        let direct = short(outside.address, A, words).await;
        assert!(!direct.is_empty(), "{words}: dnsmasq knows nothing of it");
        assert_eq!(short(place.address(), A, words).await, direct, "{words}");
    }
    let text = place.dig(A, "nothing.test A").await;
    assert!(text.contains("status: NXDOMAIN"), "{text}");
    let text = place.dig(A, "text.test A").await;
    assert!(
        text.contains("status: NOERROR") && text.contains("ANSWER: 0"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_too_long_for_a_packet_is_fetched_over_tcp() {
    let (place, outside) = (place().await, outside().await);
    place.forward_to(&[outside.address]);
    let all = short(place.address(), A, "+tcp many.test A").await;
    assert_eq!(all.len(), usize::from(MANY));
    // A client without TCP still gets what fits.
    let message = question(9, "many.test.", RecordType::A, Some(1232));
    let bytes = say(place.address(), A, &message, SOON).await.unwrap();
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(answer.truncation && answer.answers.len() > 60 && bytes.len() <= 1232);
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_no_time() {
    let (place, outside) = (place().await, outside().await);
    place.forward_to(&[free_address().await, outside.address]);
    let start = Instant::now();
    assert_eq!(short(place.address(), A, "host.test A").await, ["192.0.2.10"]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_silent_server_costs_two_seconds() {
    let (place, outside) = (place().await, outside().await);
    let (_socket, silent) = silent().await;
    place.forward_to(&[silent, outside.address]);
    let start = Instant::now();
    assert_eq!(short(place.address(), A, "host.test A").await, ["192.0.2.10"]);
    let took = start.elapsed();
    assert!((2.0..3.5).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test]
async fn that_nobody_answers_is_said_before_the_client_gives_up() {
    let place = place().await;
    let (_socket, silent) = silent().await;
    for servers in [vec![silent], vec![silent, silent, silent], vec![]] {
        place.forward_to(&servers);
        let start = Instant::now();
        let text = place.dig(A, "host.test A").await;
        assert!(text.contains("status: SERVFAIL"), "{text}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

fn code(code: ResponseCode) -> impl Fn(&[u8], std::net::SocketAddr) -> Vec<Vec<u8>> {
    move |question, _| {
        let mut answer = Message::from_vec(question).unwrap().into_response();
        answer.metadata.response_code = code;
        vec![answer.to_vec().unwrap()]
    }
}

#[tokio::test]
async fn a_server_that_cannot_help_is_not_the_last_one_asked() {
    let (place, outside) = (place().await, outside().await);
    let failing = saying(code(ResponseCode::ServFail)).await;
    let refusing = saying(code(ResponseCode::Refused)).await;
    place.forward_to(&[failing, refusing, outside.address]);
    assert_eq!(short(place.address(), A, "host.test A").await, ["192.0.2.10"]);
    place.forward_to(&[failing, refusing]);
    assert!(place.dig(A, "host.test A").await.contains("status: REFUSED"));
    place.forward(Forward::NoSuchName);
    assert!(place.dig(A, "host.test A").await.contains("status: NXDOMAIN"));
}

fn with_address(mut message: Message, name: &Name, address: [u8; 4]) -> Vec<u8> {
    message.metadata.message_type = MessageType::Response;
    let data = RData::A(Address(address.into()));
    message.add_answer(Record::from_rdata(name.clone(), 60, data));
    message.to_vec().unwrap()
}

#[tokio::test]
async fn an_answer_to_another_question_counts_for_nothing() {
    let place = place().await;
    let forger = saying(|question, _| {
        let asked = Message::from_vec(question).unwrap();
        let name = asked.queries[0].name.clone();
        let mut other_id = asked.clone();
        other_id.metadata.id = !asked.id;
        let mut other_name = asked.clone();
        other_name.queries[0].name = Name::from_ascii("evil.test.").unwrap();
        vec![
            b"?".to_vec(),
            with_address(other_id, &name, [6, 6, 6, 6]),
            with_address(other_name, &name, [6, 6, 6, 6]),
            with_address(asked, &name, [192, 0, 2, 1]),
        ]
    });
    place.forward_to(&[forger.await]);
    assert_eq!(short(place.address(), A, "host.test A").await, ["192.0.2.1"]);
}

#[tokio::test]
async fn questions_are_hulls_own_and_nobody_can_guess_them() {
    let place = place().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keeper = Arc::clone(&seen);
    let server = saying(move |question, from| {
        let asked = Message::from_vec(question).unwrap();
        keeper.lock().unwrap().push((asked.clone(), from.port()));
        let name = asked.queries[0].name.clone();
        vec![with_address(asked, &name, [192, 0, 2, 1])]
    });
    place.forward_to(&[server.await]);
    for _ in 0..50 {
        let message = question(1, "HoSt.test.", RecordType::A, Some(4096));
        let answer = say(place.address(), A, &message, SOON).await.unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().id, 1);
    }
    // Without recursion, with where it comes from and a cookie: all that is between the client and hull.
    place.dig(A, "+norecurse +subnet=192.0.2.0/24 host.test A").await;
    place.dig(A, "+noedns host.test A").await;
    let seen = seen.lock().unwrap();
    let ids: BTreeSet<_> = seen.iter().map(|(message, _)| message.id).collect();
    let ports: BTreeSet<_> = seen.iter().map(|(_, port)| *port).collect();
    assert!(
        ids.len() > 45 && ports.len() > 40,
        "{} {}",
        ids.len(),
        ports.len()
    );
    assert!(seen.iter().all(|(message, _)| message.recursion_desired));
    let edns = seen[50].0.edns.as_ref().unwrap();
    assert_eq!((edns.max_payload(), edns.options().as_ref().len()), (1232, 0));
    assert!(seen[51].0.edns.is_none());
}

async fn pinned(place: &Place, words: &str) -> Vec<Seen> {
    place.dig(B, words).await;
    std::mem::take(&mut *place.said.pinned.lock().unwrap())
}

#[tokio::test]
async fn addresses_are_shown_to_the_policy_under_the_name_that_was_asked_for() {
    let (place, outside) = (place().await, outside().await);
    place.forward_to(&[outside.address]);
    let seen = |name: &str, address: &str, ttl| {
        let ttl = Duration::from_secs(ttl);
        vec![("b".to_owned(), name.to_owned(), vec![ip(address)], ttl)]
    };
    let chain = pinned(&place, "Alias2.test A").await;
    assert_eq!(chain, seen("alias2.test", "192.0.2.10", 30));
    let hint = pinned(&place, "svc.test HTTPS").await;
    assert_eq!(hint, seen("svc.test", "192.0.2.99", 0));
    // An IPv4 address in the clothes of an IPv6 address.
    let mapped = pinned(&place, "mapped.test AAAA").await;
    assert_eq!(mapped, seen("mapped.test", "10.0.0.9", 0));
    // Addresses beside an answer are not told, so there is nothing to decide.
    assert!(pinned(&place, "mail.test MX").await.is_empty());
    assert!(place.dig(B, "mail.test MX").await.contains("ADDITIONAL: 1"));
}

#[tokio::test]
async fn addresses_that_the_policy_denies_are_not_told() {
    let (place, outside) = (place().await, outside().await);
    place.forward_to(&[outside.address]);
    let denied = ["192.0.2.10", "192.0.2.99", "10.0.0.9", "198.51.100.7"];
    *place.said.denied.lock().unwrap() = denied.map(ip).to_vec();
    assert_eq!(short(place.address(), A, "alias.test A").await, ["host.test."]);
    assert!(short(place.address(), A, "svc.test HTTPS").await.is_empty());
    assert!(short(place.address(), A, "mapped.test AAAA").await.is_empty());
    assert_eq!(
        short(place.address(), A, "host.test AAAA").await,
        ["2001:db8::10"]
    );
    let many = short(place.address(), A, "+tcp many.test A").await;
    assert_eq!(many.len(), usize::from(MANY) - 1);
    assert!(!many.contains(&"198.51.100.7".to_owned()));
}

#[tokio::test]
async fn a_policy_that_cannot_decide_tells_nothing() {
    let (place, outside) = (place().await, outside().await);
    place.forward_to(&[outside.address]);
    *place.said.hesitation.lock().unwrap() = Duration::from_secs(60);
    let start = Instant::now();
    assert!(place.dig(A, "host.test A").await.contains("status: SERVFAIL"));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
