//! Messages to bytes, no more than the client takes.

use hickory_proto::ProtoError;
use hickory_proto::op::{Header, HeaderCounts, Message, emit_message_parts};
use hickory_proto::serialize::binary::BinEncoder;

/// The length of an OPT record without options (RFC 6891, 6.1.2).
const OPT_LENGTH: u16 = 11;

/// A message in at most `limit` bytes. If it is longer, records are left out from its end and it says so (TC); those that fit
/// stay, because resolvers without TCP (musl's, for long) make do with them.
pub(super) fn encode(mut message: Message, limit: u16) -> Result<Vec<u8>, ProtoError> {
    let (bytes, written) = write(&message, limit)?;
    if is_whole(&message, written) {
        return Ok(bytes);
    }
    // An OPT record is written last and must not be what is left out.
    let edns = message.edns.take();
    let (_, fits) = write(&message, limit.saturating_sub(OPT_LENGTH))?;
    message.answers.truncate(fits.answers.into());
    message.authorities.truncate(fits.authorities.into());
    message.additionals.truncate(fits.additionals.into());
    message.metadata.truncation = true;
    message.edns = edns;
    Ok(write(&message, limit)?.0)
}

fn write(message: &Message, limit: u16) -> Result<(Vec<u8>, HeaderCounts), ProtoError> {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    let Header { counts, .. } = emit_message_parts(
        &message.metadata,
        &mut message.queries.iter(),
        &mut message.answers.iter(),
        &mut message.authorities.iter(),
        &mut message.additionals.iter(),
        message.edns.as_ref(),
        None,
        &mut encoder,
    )?;
    Ok((bytes, counts))
}

fn is_whole(message: &Message, written: HeaderCounts) -> bool {
    let additionals = message.additionals.len() + usize::from(message.edns.is_some());
    usize::from(written.answers) == message.answers.len()
        && usize::from(written.authorities) == message.authorities.len()
        && usize::from(written.additionals) == additionals
}
