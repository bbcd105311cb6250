//! The messages (Docker Engine API, `CreateImageInfo` and `PushImageInfo`): JSON objects, one behind the other.

use serde::Deserialize;
use serde_json::Value;

/// The longest message that is kept while its end is missing, in bytes.
const LIMIT: usize = 1 << 20;

/// One message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    /// What it is about: a layer, or the tag.
    pub(super) id: String,
    /// How that stands.
    pub(super) status: String,
    /// Text to be shown as it is.
    pub(super) stream: String,
    /// How far it is.
    #[serde(rename = "progressDetail")]
    pub(super) progress: Option<Progress>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    /// A value for programs.
    pub(super) aux: Option<Value>,
}

/// How far something is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    pub(super) current: u64,
    pub(super) total: u64,
}

impl Progress {
    /// Whether it says anything.
    pub(super) fn is_known(self) -> bool {
        self.current > 0 || self.total > 0
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    code: i64,
    message: String,
}

impl Message {
    /// Why the transfer failed, if this message says that it did.
    pub(super) fn failure(&self) -> Option<&str> {
        let detail = self.error_detail.as_ref().map(|detail| detail.message.as_str());
        detail
            .filter(|message| !message.is_empty())
            .or(self.error.as_deref())
    }

    /// The exit code that a failure names; zero when it names none.
    pub(super) fn failure_code(&self) -> i64 {
        self.error_detail.as_ref().map_or(0, |detail| detail.code)
    }

    /// The message as a line where nothing moves; none when it only tells how far something is.
    pub(super) fn line(&self) -> Option<String> {
        if !self.stream.is_empty() {
            return Some(self.stream.clone());
        }
        if self.status.is_empty() || self.progress.is_some_and(Progress::is_known) {
            return None;
        }
        Some(match self.id.as_str() {
            "" => format!("{}\n", self.status),
            id => format!("{id}: {}\n", self.status),
        })
    }
}

/// Finds the messages in what arrives.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    rest: Vec<u8>,
}

impl MessageReader {
    /// Takes what arrived; the messages that are whole now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, serde_json::Error> {
        self.rest.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let mut stream = serde_json::Deserializer::from_slice(&self.rest).into_iter::<Message>();
        let mut used = 0;
        while let Some(message) = stream.next() {
            match message {
                Err(error) if error.is_eof() => break,
                message => messages.push(message?),
            }
            used = stream.byte_offset();
        }
        self.rest.drain(..used);
        if self.rest.len() > LIMIT {
            return Err(serde::de::Error::custom("a message has no end"));
        }
        Ok(messages)
    }

    /// The end of the stream, which must be the end of a message.
    pub(super) fn finish(self) -> Result<(), serde_json::Error> {
        match self.rest.trim_ascii() {
            [] => Ok(()),
            rest => serde_json::from_slice::<Message>(rest).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_wherever_the_stream_is_cut() {
        let text = "{\"status\":\"Pulling from a\",\"id\":\"latest\"}\r\n{\"status\":\"Pull complete\",\
                    \"progressDetail\":{},\"id\":\"0123\"}\n{\"stream\":\"Loaded\\n\"}";
        for cut in 0..text.len() {
            let mut reader = MessageReader::default();
            let mut messages = reader.push(&text.as_bytes()[..cut]).unwrap();
            messages.extend(reader.push(&text.as_bytes()[cut..]).unwrap());
            reader.finish().unwrap();
            let lines: Vec<_> = messages.iter().filter_map(Message::line).collect();
            assert_eq!(
                lines,
                ["latest: Pulling from a\n", "0123: Pull complete\n", "Loaded\n"]
            );
        }
    }

    #[test]
    fn how_far_something_is_makes_no_line() {
        let mut reader = MessageReader::default();
        let text = br#"{"status":"Downloading","progressDetail":{"current":1,"total":9},"id":"a"}"#;
        assert_eq!(reader.push(text).unwrap()[0].line(), None);
    }

    #[test]
    fn a_failure_is_told_with_its_detail() {
        let mut reader = MessageReader::default();
        let text = br#"{"errorDetail":{"code":401,"message":"denied"},"error":"denied"}"#;
        let message = &reader.push(text).unwrap()[0];
        assert_eq!((message.failure(), message.failure_code()), (Some("denied"), 401));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(MessageReader::default().push(b"[1]").is_err());
        let mut reader = MessageReader::default();
        assert!(reader.push(b"{\"status\":").unwrap().is_empty());
        assert!(reader.finish().is_err());
        let mut reader = MessageReader::default();
        let endless = [b"{\"status\":\"".as_slice(), &vec![b'a'; LIMIT]].concat();
        assert!(reader.push(&endless).is_err());
    }
}
