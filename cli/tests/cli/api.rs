//! A small HTTP server on a unix socket whose answers are given as data.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

/// What the server got.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `METHOD /path?query`, without the API version in front of the path.
    pub(crate) line: String,
    /// The header `X-Registry-Auth`; empty when there is none.
    pub(crate) registry_auth: String,
    /// All headers, their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What it says.
pub(crate) enum Answer {
    /// A status and a JSON body.
    Json(u16, String),
    /// A body of this media type.
    Stream(&'static str, Vec<u8>),
    /// The head at once, the JSON body when the function has it.
    Later(Box<dyn FnOnce() -> String + Send>),
    /// `101`, then the connection is given to the function.
    Hijack(Box<dyn FnOnce(UnixStream) + Send>),
}

/// A running server.
pub(crate) struct Api {
    folder: TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Api {
    /// Serves until the test ends.
    pub(crate) fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("api.sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || converse(stream.unwrap(), &log, &*answer));
            }
        });
        Self { folder, requests }
    }

    /// For `--host`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("api.sock").display())
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The lines of every request so far, sorted because connections are served side by side.
    pub(crate) fn request_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.requests().into_iter().map(|request| request.line).collect();
        lines.sort();
        lines
    }
}

/// `{"message": ...}` with a status.
pub(crate) fn refusal(status: u16, message: &str) -> Answer {
    Answer::Json(status, format!("{{\"message\":{message:?}}}"))
}

/// A piece of a multiplexed stream.
pub(crate) fn piece(stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn converse(stream: UnixStream, log: &Mutex<Vec<Request>>, answer: &(impl Fn(&Request) -> Answer + ?Sized)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader) {
        log.lock().unwrap().push(request.clone());
        match answer(&request) {
            Answer::Json(status, body) => {
                let head = head(status, "application/json", body.len());
                writer.write_all((head + &body).as_bytes()).unwrap();
            }
            Answer::Stream(media_type, body) => {
                writer
                    .write_all(head(200, media_type, body.len()).as_bytes())
                    .unwrap();
                writer.write_all(&body).unwrap();
            }
            Answer::Later(body) => {
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                writer.write_all(head.as_bytes()).unwrap();
                let body = body();
                writer
                    .write_all(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes())
                    .unwrap();
            }
            Answer::Hijack(session) => {
                let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
                writer.write_all(head.as_bytes()).unwrap();
                assert!(
                    reader.buffer().is_empty(),
                    "input came before the connection was handed over"
                );
                return session(writer);
            }
        }
    }
}

fn head(status: u16, media_type: &str, length: usize) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n")
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut length = 0;
    let mut chunked = false;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "transfer-encoding" => chunked = value == "chunked",
            _ => {}
        }
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).ok()? + 2];
        reader.read_exact(&mut chunk).ok()?;
        chunk.truncate(chunk.len() - 2);
        chunked = !chunk.is_empty();
        body.extend(chunk);
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let path = target
        .strip_prefix("/v1.51")
        .expect("every path names the API's version");
    Some(Request {
        line: format!("{method} {path}"),
        registry_auth: headers.get("x-registry-auth").cloned().unwrap_or_default(),
        headers,
        body,
    })
}
