//! One line of the file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use crate::{LogRecord, OutputStream};

/// A line of the file.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: OutputStream,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: Timestamp,
    /// The end of the record in its stream; 0 in files that another program wrote.
    #[serde(default)]
    pub(crate) offset: u64,
}

impl<'a> Line<'a> {
    /// The line in these bytes; `None` if they hold none.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Line<'a>> {
        serde_json::from_slice(bytes).ok()
    }

    pub(crate) fn stream(&self) -> OutputStream {
        self.stream
    }

    pub(crate) fn time(&self) -> Timestamp {
        self.time
    }

    pub(crate) fn into_record(self) -> LogRecord {
        LogRecord {
            stream: self.stream,
            time: self.time,
            attributes: self.attrs,
            bytes: Bytes::from(self.log.into_owned().into_bytes()),
        }
    }
}

/// What is the same in all lines of one piece of output.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) stream: OutputStream,
    /// A timestamp.
    pub(crate) time: &'a str,
    /// A JSON object, or nothing.
    pub(crate) attributes: &'a [u8],
}

/// Appends a line.
pub(crate) fn append(to: &mut Vec<u8>, head: Head<'_>, text: &[u8], offset: u64) {
    let Head {
        stream,
        time,
        attributes,
    } = head;
    let name = match stream {
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    };
    to.extend_from_slice(b"{\"log\":");
    // Neither can fail: memory takes what is written, and a string has a JSON form.
    let _ = serde_json::to_writer(&mut *to, &String::from_utf8_lossy(text));
    let _ = write!(to, ",\"stream\":\"{name}\"");
    if !attributes.is_empty() {
        to.extend_from_slice(b",\"attrs\":");
        to.extend_from_slice(attributes);
    }
    let _ = writeln!(to, ",\"time\":\"{time}\",\"offset\":{offset}}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_with_what_is_no_text_replaced() {
        let mut file = Vec::new();
        let head = Head {
            stream: OutputStream::Stderr,
            time: "2026-01-02T03:04:05.6Z",
            attributes: b"",
        };
        append(&mut file, head, b"a\"\xff\x01\n", 99);
        assert_eq!(
            String::from_utf8_lossy(&file),
            "{\"log\":\"a\\\"\u{fffd}\\u0001\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.6Z\",\"offset\":99}\n"
        );
        let line = Line::parse(&file).unwrap();
        assert_eq!(line.offset, 99);
        let record = line.into_record();
        assert_eq!(record.stream, OutputStream::Stderr);
        assert_eq!(record.bytes, "a\"\u{fffd}\u{1}\n".as_bytes());
    }

    #[test]
    fn attributes_stand_where_docker_has_them() {
        let mut file = Vec::new();
        let head = Head {
            stream: OutputStream::Stdout,
            time: "2026-01-02T03:04:05.6Z",
            attributes: br#"{"tier":"front"}"#,
        };
        append(&mut file, head, b"x\n", 2);
        assert_eq!(
            String::from_utf8_lossy(&file),
            "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"tier\":\"front\"},\"time\":\"2026-01-02T03:04:05.6Z\",\"offset\":2}\n"
        );
        let record = Line::parse(&file).unwrap().into_record();
        assert_eq!(
            record.attributes,
            [("tier".to_owned(), "front".to_owned())].into()
        );
    }

    #[test]
    fn a_line_of_docker_has_no_offset_and_a_torn_one_is_none() {
        let docker = br#"{"log":"hi\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}"#;
        assert_eq!(Line::parse(docker).unwrap().offset, 0);
        assert!(Line::parse(&docker[..30]).is_none());
    }
}
