//! Answers about containers.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::seq::SliceRandom;

use super::names::{Forward, Names};
use super::question::Question;

/// For how many seconds an answer about a container may be kept. Addresses move with the containers that have them, and one that
/// was given back is soon somebody else's; still, a burst of questions for one name is one question for who keeps answers at all.
const TTL: u32 = 2;

/// What a question leads to.
pub(super) enum Step {
    Answer(Message),
    Forward(Vec<SocketAddr>),
}

/// The answer, if it is known here; those who may know it, if not.
pub(super) fn answer(names: &dyn Names, client: &str, question: &Question) -> Step {
    let kind = question.kind();
    if question.query.query_class() != DNSClass::IN || is_about_messages(kind) {
        return Step::Answer(question.reply(ResponseCode::Refused));
    }
    if kind == RecordType::ANY {
        return Step::Answer(any(question));
    }
    let known = match address_asked_for(question).and_then(|address| names.name(client, address)) {
        Some(name) => Some(pointer(&name)),
        None => names
            .addresses(client, &question.name)
            .map(|addresses| of_kind(kind, addresses)),
    };
    if let Some(data) = known {
        return Step::Answer(authoritative(question, data));
    }
    match names.forward(client, &question.name, kind) {
        Forward::To(servers) => Step::Forward(servers),
        Forward::NoSuchName => Step::Answer(question.reply(ResponseCode::NXDomain)),
        Forward::Refuse => Step::Answer(question.reply(ResponseCode::Refused)),
    }
}

/// Types that no name has records of: OPT and those that speak of transactions and transfers (RFC 6895, 3.1).
fn is_about_messages(kind: RecordType) -> bool {
    let number = u16::from(kind);
    number == 0 || kind == RecordType::OPT || (128..255).contains(&number)
}

/// "All there is" is one record that says no (RFC 8482, 4.2): clients take it for an answer and do not ask on.
fn any(question: &Question) -> Message {
    let refusal = HINFO::new("RFC8482".to_owned(), String::new());
    authoritative(question, vec![RData::HINFO(refusal)])
}

/// Without records this is an answer, too, and without a SOA record nobody keeps it (RFC 2308, 5): the address may come yet.
fn authoritative(question: &Question, data: Vec<RData>) -> Message {
    let mut reply = question.reply(ResponseCode::NoError);
    reply.metadata.authoritative = true;
    let owner = question.query.name();
    reply.add_answers(
        data.into_iter()
            .map(|data| Record::from_rdata(owner.clone(), TTL, data)),
    );
    reply
}

/// The address whose name is asked for.
fn address_asked_for(question: &Question) -> Option<IpAddr> {
    if question.kind() != RecordType::PTR {
        return None;
    }
    let net = question.query.name().parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// A name that DNS cannot write is none.
fn pointer(name: &str) -> Vec<RData> {
    let written = Name::from_ascii(name).map(|mut name| {
        name.set_fqdn(true);
        RData::PTR(PTR(name))
    });
    written.into_iter().collect()
}

/// The addresses of the family that is asked for, in random order: each of several containers gets its part of what comes.
fn of_kind(kind: RecordType, addresses: Vec<IpAddr>) -> Vec<RData> {
    let data = addresses.into_iter().filter_map(|address| match (kind, address) {
        (RecordType::A, IpAddr::V4(address)) => Some(RData::A(A(address))),
        (RecordType::AAAA, IpAddr::V6(address)) => Some(RData::AAAA(AAAA(address))),
        _ => None,
    });
    let mut data: Vec<_> = data.collect();
    data.shuffle(&mut rand::rng());
    data
}
