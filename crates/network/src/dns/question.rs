//! A question as a guest wrote it.

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// The longest answer over UDP in bytes: it fits in a packet on any link, so that no fragment is lost (DNS flag day 2020), and
/// a short question is worth no long answer.
pub(super) const MAX_UDP_ANSWER: u16 = 1232;

/// The longest answer over UDP to who does not say what it takes, in bytes (RFC 1035, 2.3.4).
const PLAIN_UDP_ANSWER: u16 = 512;

/// The version of EDNS that is understood (RFC 6891, 6.1.3).
const EDNS_VERSION: u8 = 0;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One question.
pub(super) struct Question {
    header: Header,
    pub(super) query: Query,
    /// The name in lower case, without a dot at its end.
    pub(super) name: String,
    edns: Option<Edns>,
}

/// What is said to something that is no question: nothing, or an error.
pub(super) type Unanswerable = Option<Box<Message>>;

impl Question {
    /// Reads a message that somebody sent.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unanswerable> {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).map_err(|_| None)?;
        // Answering an answer would have two servers talk without end.
        if header.message_type == MessageType::Response {
            return Err(None);
        }
        let error = |code| Some(Box::new(Message::error_msg(header.id, header.op_code, code)));
        if header.op_code != OpCode::Query {
            return Err(error(ResponseCode::NotImp));
        }
        // Counts are looked at before anything is read by them: room for 65,535 questions would be made at once.
        let counts = header.counts;
        if (counts.queries, counts.answers, counts.authorities) != (1, 0, 0) {
            return Err(error(ResponseCode::FormErr));
        }
        let query = Query::read(&mut decoder).map_err(|_| error(ResponseCode::FormErr))?;
        let additionals = usize::from(counts.additionals);
        let records = Message::read_records(&mut decoder, additionals, true, header.op_code);
        let (_, edns, _) = records.map_err(|_| error(ResponseCode::FormErr))?;
        let question = Self {
            header,
            name: plain(&query),
            query,
            edns,
        };
        match &question.edns {
            Some(edns) if edns.version() > EDNS_VERSION => {
                Err(Some(Box::new(question.reply(ResponseCode::BADVERS))))
            }
            _ => Ok(question),
        }
    }

    /// The kind of records that are asked for.
    pub(super) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    /// An answer without records.
    pub(super) fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = Message::error_msg(self.header.id, self.header.op_code, code);
        reply.metadata.recursion_desired = self.header.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.checking_disabled = self.header.checking_disabled;
        reply.add_query(self.query.clone());
        reply.edns = self.own_edns();
        reply
    }

    /// The same question as hull asks it, with an ID that nobody can guess. Options of the client are its own business.
    pub(super) fn request(&self) -> Message {
        let mut request = Message::query();
        // A guest has no business with what is or is not in the cache of the host's server, so it is always asked to look.
        request.metadata.recursion_desired = true;
        request.metadata.checking_disabled = self.header.checking_disabled;
        request.metadata.authentic_data = self.header.authentic_data;
        request.add_query(self.query.clone());
        request.edns = self.own_edns();
        request
    }

    /// Whether the client wants to know if an answer was validated (RFC 6840, 5.7).
    pub(super) fn wants_authentic_data(&self) -> bool {
        let edns = self.edns.as_ref();
        self.header.authentic_data || edns.is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// The length that an answer may have, in bytes.
    pub(super) fn limit(&self, transport: Transport) -> u16 {
        match (transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP_ANSWER,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP_ANSWER, MAX_UDP_ANSWER),
        }
    }

    /// Who does not speak EDNS is not answered in it (RFC 6891, 7).
    fn own_edns(&self) -> Option<Edns> {
        let asked = self.edns.as_ref()?;
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_ANSWER);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        Some(edns)
    }
}

fn plain(query: &Query) -> String {
    let mut name = query.name().to_lowercase().to_ascii();
    if name.len() > 1 && name.ends_with('.') {
        name.pop();
    }
    name
}
