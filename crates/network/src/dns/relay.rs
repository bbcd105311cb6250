//! The answer of a server outside, as a client is told it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::{RData, Record};

use super::names::Names;
use super::question::Question;

/// Passes on what was answered, without the addresses that the client may not be told.
pub(super) async fn relay(
    names: &dyn Names,
    client: &str,
    question: &Question,
    answered: Message,
) -> Message {
    let mut reply = question.reply(answered.response_code);
    reply.metadata.authoritative = answered.authoritative;
    reply.metadata.truncation = answered.truncation;
    reply.metadata.authentic_data = answered.authentic_data && question.wants_authentic_data();
    reply.answers = answered.answers;
    reply.authorities = answered.authorities;
    reply.additionals = answered.additionals;
    // Addresses beside the answer spare a client a question. It asks for what it needs, and each address passes by the hook.
    reply.authorities.retain(|record| addresses(record).is_empty());
    reply.additionals.retain(|record| addresses(record).is_empty());
    pin(names, client, question, &mut reply.answers).await;
    reply
}

/// Leaves records in an answer only if all addresses in them may be told.
async fn pin(names: &dyn Names, client: &str, question: &Question, answers: &mut Vec<Record>) {
    let told: BTreeSet<_> = answers.iter().flat_map(addresses).collect();
    let Some(ttl) = answers.iter().map(|record| record.ttl).min() else {
        return;
    };
    if told.is_empty() {
        return;
    }
    let ttl = Duration::from_secs(ttl.into());
    let told = told.into_iter().collect();
    let allowed = names.pin(client, &question.name, told, ttl).await;
    answers.retain(|record| addresses(record).iter().all(|address| allowed.contains(address)));
}

/// The addresses that somebody who reads a record may connect to.
fn addresses(record: &Record) -> Vec<IpAddr> {
    match &record.data {
        RData::A(address) => vec![address.0.into()],
        RData::AAAA(address) => vec![IpAddr::from(address.0).to_canonical()],
        RData::SVCB(service) => hints(service),
        RData::HTTPS(service) => hints(&service.0),
        _ => Vec::new(),
    }
}

/// The address hints of a service (RFC 9460, 7.3).
fn hints(service: &SVCB) -> Vec<IpAddr> {
    let values = service.svc_params.iter().map(|(_, value)| value);
    let hints = values.flat_map(|value| match value {
        SvcParamValue::Ipv4Hint(hints) => hints.0.iter().map(|hint| hint.0.into()).collect(),
        SvcParamValue::Ipv6Hint(hints) => hints
            .0
            .iter()
            .map(|hint| IpAddr::from(hint.0).to_canonical())
            .collect(),
        _ => Vec::new(),
    });
    hints.collect()
}
