//! A server that does to each request what a test says: the faults that no real registry has on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a client has asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What comes back, and then.
pub(crate) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

enum Then {
    Close,
    Hang,
    Repeat(Vec<u8>),
}

impl Reply {
    /// A complete answer.
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut headers: Vec<_> = headers.to_vec();
        let length = body.len().to_string();
        headers.push(("Content-Length", &length));
        Self::raw(&[&head(status, &headers), body].concat())
    }

    /// The head of an answer that announces `length` bytes, some of them, and the end of the connection.
    pub(crate) fn cut(status: u16, headers: &[(&str, &str)], length: usize, body: &[u8]) -> Self {
        let mut headers: Vec<_> = headers.to_vec();
        let length = length.to_string();
        headers.push(("Content-Length", &length));
        Self::raw(&[&head(status, &headers), body].concat())
    }

    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            then: Then::Close,
        }
    }

    /// The same, and nothing more, but the connection stays.
    pub(crate) fn then_hang(self) -> Self {
        Self {
            then: Then::Hang,
            ..self
        }
    }

    /// The same, and then `bytes` without end.
    pub(crate) fn then_repeat(self, bytes: &[u8]) -> Self {
        Self {
            then: Then::Repeat(bytes.to_vec()),
            ..self
        }
    }
}

/// A status line and headers.
pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server that follows a script until the test ends.
pub(crate) struct Server {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers every request as `handler` says. It speaks no TLS.
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::start_at("127.0.0.1", handler).await
    }

    pub(crate) async fn start_at(
        address: &str,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let host = format!("{address}:{}", listener.local_addr()?.port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, handler): (_, Arc<Handler>) = (requests.clone(), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone(), seen.clone()));
            }
        });
        Ok(Self { host, requests })
    }

    /// What was asked so far, without the client's questions to `/v2/`.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let requests = self.requests.lock().expect("no test panics here");
        requests
            .iter()
            .filter(|request| request.target != "/v2/")
            .cloned()
            .collect()
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, seen: Arc<Mutex<Vec<Request>>>) -> Result<()> {
    let Some(request) = read(&mut stream).await? else {
        return Ok(());
    };
    seen.lock().expect("no test panics here").push(request.clone());
    let reply = handler(&request);
    stream.write_all(&reply.bytes).await?;
    match reply.then {
        Then::Close => stream.shutdown().await?,
        Then::Hang => tokio::time::sleep(Duration::from_secs(3600)).await,
        Then::Repeat(bytes) => loop {
            stream.write_all(&bytes).await?;
        },
    }
    Ok(())
}

/// A request; none if the client wants TLS or says nothing.
async fn read(stream: &mut TcpStream) -> Result<Option<Request>> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await?;
        bytes.extend_from_slice(&piece[..count]);
        if count == 0 || bytes[0] == 0x16 {
            return Ok(None);
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..end].to_vec())?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ').map(String::from);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(Ok(0), |length| length.parse())?;
    let mut body = bytes[end + 4..].to_vec();
    let known = body.len();
    body.resize(length.max(known), 0);
    stream.read_exact(&mut body[known..]).await?;
    Ok(Some(Request {
        method,
        target,
        headers,
        body,
    }))
}
