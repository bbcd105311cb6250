//! From the bytes of a question to those of its answer, however they came.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use tokio::time::timeout;

use super::answer::{Step, answer};
use super::encode::encode;
use super::names::Names;
use super::places::{Place, Places};
use super::question::{Question, Transport};
use super::relay::relay;
use super::upstream;

/// How many questions may wait for servers outside, of all clients; each holds a few KiB and two sockets at most.
const QUESTIONS: usize = 1024;

/// How many TCP connections clients may have.
const CONNECTIONS: usize = 256;

/// For how long an answer from outside may be looked at by [`Names::pin`].
const PIN_TIME: Duration = Duration::from_secs(1);

/// What the sockets of all networks share.
pub(super) struct Serving {
    pub(super) names: Arc<dyn Names>,
    questions: Arc<Places>,
    pub(super) connections: Arc<Places>,
}

/// What is to be done with a message.
pub(super) enum Taken {
    /// Nothing is said to it.
    Nothing,
    /// This is its answer.
    Answer(Vec<u8>),
    /// Somebody else is asked: [`Serving::ask`].
    Ask(Box<Asking>),
}

/// A question on its way.
pub(super) struct Asking {
    client: String,
    question: Question,
    servers: Vec<SocketAddr>,
    limit: u16,
    _place: Place,
}

impl Serving {
    pub(super) fn new(names: Arc<dyn Names>) -> Self {
        Self {
            names,
            questions: Places::new(QUESTIONS),
            connections: Places::new(CONNECTIONS),
        }
    }

    /// Answers a message at once, if that can be done. It is not said to a client that it asks too much: who asks again later
    /// finds a place, who is told of an error gives up.
    pub(super) fn take(&self, from: IpAddr, transport: Transport, bytes: &[u8]) -> Taken {
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(Some(error)) => return written(encode(*error, u16::MAX).ok()),
            Err(None) => return Taken::Nothing,
        };
        let limit = question.limit(transport);
        let Some(client) = self.names.client(from) else {
            return written(bytes_of(&question, question.reply(ResponseCode::Refused), limit));
        };
        let servers = match answer(self.names.as_ref(), &client, &question) {
            Step::Answer(reply) => return written(bytes_of(&question, reply, limit)),
            Step::Forward(servers) => servers,
        };
        let Some(place) = self.questions.take(&client) else {
            return Taken::Nothing;
        };
        Taken::Ask(Box::new(Asking {
            client,
            question,
            servers,
            limit,
            _place: place,
        }))
    }

    /// The answer of a server outside, or that there is none; in less than 6 s.
    pub(super) async fn ask(&self, asking: &Asking) -> Option<Vec<u8>> {
        let answered = upstream::ask(&asking.servers, &asking.question.request()).await;
        match timeout(PIN_TIME, self.tell(asking, answered)).await {
            Ok(told) => told,
            Err(_) => self.tell(asking, None).await,
        }
    }

    /// What the client is told of an answer from outside.
    pub(super) async fn tell(&self, asking: &Asking, answered: Option<Message>) -> Option<Vec<u8>> {
        let question = &asking.question;
        let reply = match answered {
            Some(answered) => relay(self.names.as_ref(), &asking.client, question, answered).await,
            None => question.reply(ResponseCode::ServFail),
        };
        bytes_of(question, reply, asking.limit)
    }
}

fn written(bytes: Option<Vec<u8>>) -> Taken {
    bytes.map_or(Taken::Nothing, Taken::Answer)
}

/// An answer that cannot be written is a failure of the server.
fn bytes_of(question: &Question, reply: Message, limit: u16) -> Option<Vec<u8>> {
    encode(reply, limit)
        .or_else(|_| encode(question.reply(ResponseCode::ServFail), limit))
        .ok()
}
