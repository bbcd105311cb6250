//! Questions about containers.

use std::collections::BTreeSet;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use network::dns::Forward;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

use crate::place::{A, B, CROWD, STRANGER, place, question, say, short};

const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_container_is_found_by_its_name_however_it_is_written() {
    let place = place().await;
    let both = ["10.0.0.1", "10.0.0.2"];
    for words in ["web A", "WeB. A", "+tcp web A", "+noedns web A", "+dnssec web A"] {
        assert_eq!(short(place.address(), A, words).await, both, "{words}");
    }
    for words in ["web AAAA", "+tcp web AAAA"] {
        assert_eq!(short(place.address(), B, words).await, ["fd00::1"], "{words}");
    }
    let text = place.dig(A, "WeB A").await;
    assert!(text.contains("flags: qr aa rd ra; QUERY: 1, ANSWER: 2"), "{text}");
    assert!(text.contains("WeB.\t\t\t2\tIN\tA\t10.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_client_is_told_what_is_its_own() {
    let place = place().await;
    assert_eq!(short(place.address(), A, "secret A").await, ["10.0.9.9"]);
    assert!(place.dig(B, "secret A").await.contains("status: REFUSED"));
    let asked = ("b".to_owned(), "secret".to_owned(), RecordType::A);
    assert_eq!(*place.said.forwarded.lock().unwrap(), [asked]);
}

#[tokio::test]
async fn what_a_container_does_not_have_is_asked_of_nobody_else() {
    let place = place().await;
    for words in ["empty A", "empty AAAA", "web MX", "web HTTPS", "web PTR"] {
        let text = place.dig(A, words).await;
        assert!(text.contains("status: NOERROR"), "{words}: {text}");
        assert!(text.contains("ANSWER: 0, AUTHORITY: 0"), "{words}: {text}");
    }
    assert!(place.said.forwarded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn each_of_several_addresses_comes_first_now_and_then() {
    let place = place().await;
    let mut first = BTreeSet::new();
    for id in 0..64 {
        let message = question(id, "web.", RecordType::A, None);
        let answer = say(place.address(), A, &message, SOON);
        let answer = Message::from_vec(&answer.await.unwrap()).unwrap();
        first.insert(answer.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 2);
}

#[tokio::test]
async fn an_address_leads_to_the_name_of_who_has_it() {
    let place = place().await;
    assert_eq!(short(place.address(), A, "-x 10.0.0.1").await, ["web.mynet."]);
    assert_eq!(short(place.address(), A, "-x fd00::1").await, ["web.mynet."]);
    place.forward(Forward::NoSuchName);
    assert!(place.dig(A, "-x 10.0.0.7").await.contains("status: NXDOMAIN"));
    // Half an address is none.
    assert!(
        place
            .dig(A, "0.0.10.in-addr.arpa PTR")
            .await
            .contains("status: NXDOMAIN")
    );
    let forwarded: Vec<_> = place.said.forwarded.lock().unwrap().clone();
    assert_eq!(forwarded[0].1, "7.0.0.10.in-addr.arpa");
    assert_eq!(forwarded.len(), 2);
}

#[tokio::test]
async fn what_no_client_needs_is_refused() {
    let place = place().await;
    for (words, status) in [
        ("version.bind CH TXT", "REFUSED"),
        ("+tcp web AXFR", "REFUSED"),
        ("web TYPE250", "REFUSED"),
        ("+opcode=status web A", "NOTIMP"),
        ("+opcode=update web A", "NOTIMP"),
        ("+edns=1 +noednsneg web A", "BADVERS"),
    ] {
        let text = place.dig(A, words).await;
        assert!(
            text.contains(&format!("status: {status}")) || text.contains("Transfer failed"),
            "{words}: {text}"
        );
    }
    assert_eq!(
        short(place.address(), A, "+notcp web ANY").await,
        [r#""RFC8482" """#]
    );
    assert!(place.said.forwarded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let place = place().await;
    let text = place.dig(STRANGER, "web A").await;
    assert!(
        text.contains("status: REFUSED") && text.contains("ANSWER: 0"),
        "{text}"
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind((STRANGER.parse::<std::net::IpAddr>().unwrap(), 0).into())
        .unwrap();
    let mut stream = socket.connect(place.address()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_answer_is_no_longer_than_the_client_takes_and_whole_over_tcp() {
    let place = place().await;
    for (payload, limit) in [
        (None, 512),
        (Some(100), 512),
        (Some(700), 700),
        (Some(65535), 1232),
    ] {
        let message = question(7, "crowd.", RecordType::A, payload);
        let bytes = say(place.address(), A, &message, SOON);
        let bytes = bytes.await.unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        // As many records as fit, which are 16 bytes each.
        assert!(
            (limit - 27..=limit).contains(&bytes.len()),
            "{payload:?}: {}",
            bytes.len()
        );
        assert!(answer.truncation && answer.answers.len() >= 28, "{payload:?}");
        assert_eq!(answer.edns.is_some(), payload.is_some());
    }
    let all = short(place.address(), A, "crowd A").await;
    assert_eq!(all.len(), usize::from(CROWD), "dig asks again over TCP");
}

#[tokio::test]
async fn an_address_that_is_closed_is_free_at_once_and_one_that_is_taken_is_named() {
    let place = place().await;
    let address = place.address();
    let error = place.server.listen(address).await.err().unwrap().to_string();
    assert!(
        error.starts_with(&format!(
            "cannot answer questions about names at {address} (UDP): another name server"
        )),
        "{error}"
    );
    let (_silent, silent) = crate::outside::silent().await;
    place.forward_to(&[silent]);
    let message = question(1, "example.com.", RecordType::A, None);
    let waiting = say(address, A, &message, Duration::from_millis(200));
    assert_eq!(waiting.await, None);
    place.listening.close().await;
    let again = place.server.listen(address).await.unwrap();
    assert_eq!(short(again.address(), A, "web AAAA").await, ["fd00::1"]);
    drop(again);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let message = question(1, "web.", RecordType::A, None);
    let answer = say(address, A, &message, Duration::from_millis(200));
    assert_eq!(answer.await, None);
}
