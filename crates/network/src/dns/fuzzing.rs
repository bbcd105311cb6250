//! The door for the fuzzer: hostile questions and hostile answers without sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hickory_proto::rr::RecordType;

use super::names::{Forward, Names, Pinned};
use super::question::Transport;
use super::serving::{Serving, Taken};
use super::upstream;

/// Knows `web`, with an address of each family, and lets no address of a private network be told.
struct Web;

impl Names for Web {
    fn client(&self, address: IpAddr) -> Option<String> {
        (address == Ipv4Addr::LOCALHOST).then(|| "client".to_owned())
    }

    fn addresses(&self, _: &str, name: &str) -> Option<Vec<IpAddr>> {
        let addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        (name == "web").then(|| addresses.to_vec())
    }

    fn name(&self, _: &str, address: IpAddr) -> Option<String> {
        address.is_loopback().then(|| "web".to_owned())
    }

    fn forward(&self, _: &str, name: &str, _: RecordType) -> Forward {
        match name.len() {
            0..=2 => Forward::Refuse,
            3 => Forward::NoSuchName,
            _ => Forward::To(Vec::new()),
        }
    }

    fn pin<'a>(&'a self, _: &'a str, _: &'a str, mut addresses: Vec<IpAddr>, _: Duration) -> Pinned<'a> {
        addresses.retain(|address| !matches!(address, IpAddr::V4(address) if address.is_private()));
        Box::pin(std::future::ready(addresses))
    }
}

/// What is said to one message over UDP; `answered` is what a server outside says, if one is asked.
pub fn answer(message: &[u8], answered: &[u8]) -> Option<Vec<u8>> {
    let serving = Serving::new(Arc::new(Web));
    match serving.take(Ipv4Addr::LOCALHOST.into(), Transport::Udp, message) {
        Taken::Nothing => None,
        Taken::Answer(answer) => Some(answer),
        Taken::Ask(asking) => {
            let told = serving.tell(&asking, upstream::read(answered));
            told.now_or_never().flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, Query};
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str) -> Vec<u8> {
        let mut message = Message::query();
        let name = Name::from_ascii(name).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message.to_vec().unwrap()
    }

    /// What holds for any answer: it is one, to this message, and fits in a packet.
    fn check(message: &[u8], answered: &[u8]) {
        let Some(answer) = answer(message, answered) else {
            return;
        };
        assert!(answer.len() <= 1232, "{}", answer.len());
        assert_eq!(answer[..2], message[..2]);
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.message_type, MessageType::Response);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered_or_not(message: Vec<u8>, answered: Vec<u8>) {
            check(&message, &answered);
        }

        #[test]
        fn a_question_with_wrong_bytes_is_answered_or_not(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            answered: Vec<u8>,
        ) {
            let mut message = question("web.example.com.");
            for (index, byte) in changes {
                let index = index.index(message.len());
                message[index] = byte;
            }
            check(&message, &answered);
        }

        #[test]
        fn an_answer_with_wrong_bytes_is_told_or_not(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let message = question("www.example.com.");
            // Its own answer, with an address behind the question.
            let mut answered = message.clone();
            answered[2] |= 0x80;
            answered[7] = 1;
            answered.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
            for (index, byte) in changes {
                let index = index.index(answered.len());
                answered[index] = byte;
            }
            check(&message, &answered);
        }
    }

    #[test]
    fn the_door_leads_to_answers_of_all_kinds() {
        let told = |name, answered: &[u8]| {
            let answer = answer(&question(name), answered).unwrap();
            Message::from_vec(&answer).unwrap()
        };
        assert_eq!(told("web.", b"").answers.len(), 1);
        assert_eq!(told("abc.", b"").response_code.to_string(), "Non-Existent Domain");
        let mut answered = question("www.example.com.");
        answered[2] |= 0x80;
        answered[7] = 1;
        answered.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        assert_eq!(told("www.example.com.", &answered).answers.len(), 1);
        let end = answered.len() - 4;
        answered[end..].copy_from_slice(&[10, 0, 0, 1]);
        assert!(told("www.example.com.", &answered).answers.is_empty());
    }
}
