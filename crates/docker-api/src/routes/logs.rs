//! A container's log.

use std::collections::BTreeMap;
use std::io;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use engine::{Engine, LogOptions, LogReader, LogRecord, OutputStream};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::ApiError;
use crate::hijack::content_type;
use crate::query::Params;
use crate::stdcopy::Framing;
use crate::version::ApiVersion;

/// `GET /containers/{name}/logs`
pub(super) async fn logs(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
) -> Result<Response, ApiError> {
    let options = read_options(&params)?;
    let reader = engine.logs(&name, options).await?;
    let framing = Framing::of(reader.terminal());
    let prefixes = Prefixes {
        time: params.flag("timestamps"),
        details: params.flag("details"),
        ..Prefixes::default()
    };
    let mut response = Response::new(Body::from_stream(records(reader, framing, prefixes)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, content_type(version, framing));
    Ok(response)
}

fn read_options(params: &Params) -> Result<LogOptions, ApiError> {
    let options = LogOptions {
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        follow: params.flag("follow"),
        tail: params.text("tail").and_then(|lines| lines.parse().ok()), // `all`, as anything else, is all
        since: moment(params, "since")?,
        until: moment(params, "until")?,
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::bad_request(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    Ok(options)
}

/// A moment; 0 is none.
fn moment(params: &Params, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let read = |nanoseconds| {
        Timestamp::from_nanosecond(nanoseconds).map_err(|error| {
            ApiError::bad_request(format!("invalid value of the query parameter `{name}`: {error}"))
        })
    };
    params
        .timestamp(name)?
        .filter(|&nanoseconds| nanoseconds != 0)
        .map(read)
        .transpose()
}

fn records(reader: LogReader, framing: Framing, prefixes: Prefixes) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold((reader, prefixes), move |(mut reader, mut prefixes)| async move {
        let record = match reader.next().await {
            Ok(record) => record?,
            Err(error) => {
                tracing::error!(%error, "cannot read a container's log");
                return Some((Err(io::Error::other(error)), (reader, prefixes)));
            }
        };
        let channel = record.stream.into();
        let bytes = prefixes.put_before(record);
        Some((Ok(framing.encode(channel, bytes)), (reader, prefixes)))
    })
}

/// What is put before each line. A long line comes in pieces, of which only the first has it.
#[derive(Default)]
struct Prefixes {
    time: bool,
    /// Attributes of the line and a blank.
    details: bool,
    stdout_within_line: bool,
    stderr_within_line: bool,
}

impl Prefixes {
    fn put_before(&mut self, record: LogRecord) -> Bytes {
        let within_line = match record.stream {
            OutputStream::Stdout => &mut self.stdout_within_line,
            OutputStream::Stderr => &mut self.stderr_within_line,
        };
        let continues = std::mem::replace(within_line, !record.bytes.ends_with(b"\n"));
        if continues || !(self.time || self.details) {
            return record.bytes;
        }
        let mut line = BytesMut::new();
        if self.time {
            line.put_slice(format!("{:.9} ", record.time).as_bytes());
        }
        if self.details {
            line.put_slice(details(&record.attributes).as_bytes());
        }
        line.put_slice(&record.bytes);
        line.freeze()
    }
}

/// `name=value,name=value `, encoded as a query is, so that each is one word.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = attributes
        .iter()
        .map(|(name, value)| format!("{}={}", query_encoded(name), query_encoded(value)))
        .collect();
    pairs.join(",") + " "
}

fn query_encoded(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    let words = text.split(' ');
    let words: Vec<String> = words
        .map(|word| utf8_percent_encode(word, KEPT).to_string())
        .collect();
    words.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed() -> Prefixes {
        Prefixes {
            time: true,
            ..Prefixes::default()
        }
    }

    fn stamped(stamps: &mut Prefixes, stream: OutputStream, text: &'static str) -> Bytes {
        let time = Timestamp::from_nanosecond(1_700_000_000_120_000_000).unwrap();
        stamps.put_before(LogRecord {
            stream,
            time,
            attributes: BTreeMap::new(),
            bytes: Bytes::from_static(text.as_bytes()),
        })
    }

    #[test]
    fn each_line_has_its_time_with_nine_decimals() {
        let line = stamped(&mut timed(), OutputStream::Stdout, "hi\n");
        assert_eq!(line, "2023-11-14T22:13:20.120000000Z hi\n");
    }

    #[test]
    fn details_are_a_blank_behind_the_time() {
        let mut details = Prefixes {
            details: true,
            ..timed()
        };
        let line = stamped(&mut details, OutputStream::Stdout, "hi\n");
        assert_eq!(line, "2023-11-14T22:13:20.120000000Z  hi\n");
        details.time = false;
        assert_eq!(stamped(&mut details, OutputStream::Stdout, "hi\n"), " hi\n");
    }

    #[test]
    fn attributes_are_one_word() {
        let attributes = [("tier", "front"), ("a b", "ü&=,1.~")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(details(&attributes.into()), "a+b=%C3%BC%26%3D%2C1.~,tier=front ");
    }

    #[test]
    fn a_line_in_pieces_has_one_time_and_the_other_stream_its_own() {
        let mut stamps = timed();
        assert!(stamped(&mut stamps, OutputStream::Stdout, "begins ").starts_with(b"2023-"));
        assert!(stamped(&mut stamps, OutputStream::Stderr, "other\n").starts_with(b"2023-"));
        assert_eq!(
            stamped(&mut stamps, OutputStream::Stdout, "and ends\n"),
            "and ends\n"
        );
        assert!(stamped(&mut stamps, OutputStream::Stdout, "next\n").starts_with(b"2023-"));
    }
}
