//! A server of its own for each test, and a client that writes its requests byte by byte.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use engine::{Engine, EngineSpec};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::layout;

/// A server over an engine with a temporary state and one image, `localhost/busybox:latest`.
pub(crate) struct Server {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
    _folder: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("the body is no JSON: {self:?}"))
    }

    /// The message of an error.
    pub(crate) fn message(&self) -> Result<String> {
        let json = self.json()?;
        Ok(json["message"]
            .as_str()
            .with_context(|| format!("no message in {json}"))?
            .to_owned())
    }

    /// The value of a header whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .context("an answer without a head")?;
        let head = String::from_utf8(bytes[..end].to_vec())?;
        let status = head
            .split(' ')
            .nth(1)
            .context("a head without a status")?
            .parse()?;
        let mut answer = Self {
            status,
            head,
            body: bytes[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body)?;
        }
        Ok(answer)
    }
}

/// Reads an answer to the end of the connection.
pub(crate) fn read_answer(stream: &mut UnixStream) -> Result<Answer> {
    let mut answer = Vec::new();
    // What was not read of the request resets a connection.
    let end = stream.read_to_end(&mut answer);
    Answer::read(&answer).or_else(|error| end.map_err(Into::into).and(Err(error)))
}

fn unchunk(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("a chunk without a length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..line])?, 16)?;
        let data = &bytes[line + 2..];
        ensure!(data.len() >= length + 2, "a chunk is cut");
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&data[..length]);
        bytes = &data[length + 2..];
    }
}

impl Server {
    /// Starts a server.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let lib = folder.path().join("lib");
        layout::write(&lib.join("busybox"))?;
        let spec = EngineSpec {
            root: folder.path().join("root"),
            runtime: folder.path().join("run"),
            lib,
            client_files: Default::default(),
            registries: Default::default(),
            networks: Default::default(),
            build_time_limit: None,
            build_cache_bytes: None,
        };
        let socket = folder.path().join("api.sock");
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let path = socket.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let engine = Engine::open(spec).await?;
                let listener = UnixListener::bind(path)?;
                ready.send(())?;
                let listeners = docker_api::Listeners {
                    api: vec![docker_api::Listener::unix(listener)],
                    metrics: Vec::new(),
                };
                docker_api::serve(listeners, engine, docker_api::About::default(), async {
                    let _ = stopped.await;
                })
                .await;
                Ok(())
            })
        });
        if is_ready.recv_timeout(Duration::from_secs(20)).is_err() {
            ensure!(thread.is_finished(), "the engine did not open in time");
            return Err(match thread.join() {
                Ok(outcome) => outcome.err().context("the server ended without a reason")?,
                Err(_) => anyhow::anyhow!("the server panicked"),
            });
        }
        Ok(Self {
            socket,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        })
    }

    /// Where it listens, as the docker CLI wants it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A connection on which no read waits for ever.
    pub(crate) fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(stream)
    }

    /// Sends bytes, says that there are no more, and reads the answer.
    pub(crate) fn raw(&self, request: &[u8]) -> Result<Answer> {
        let mut stream = self.connect()?;
        // A server that refuses a body need not read it.
        let _ = stream.write_all(request);
        let answer = read_answer(&mut stream);
        stream.shutdown(Shutdown::Both).ok();
        answer
    }

    /// A request with a JSON body, or with an empty one.
    pub(crate) fn request(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        self.raw(format!("{head}{body}").as_bytes())
    }

    pub(crate) fn get(&self, target: &str) -> Result<Answer> {
        self.request("GET", target, None)
    }

    pub(crate) fn post(&self, target: &str, body: Option<&Value>) -> Result<Answer> {
        self.request("POST", target, body)
    }

    /// Makes a container and answers its id.
    pub(crate) fn create(&self, name: &str, body: &Value) -> Result<String> {
        let answer = self.post(&format!("/containers/create?name={name}"), Some(body))?;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(answer.json()?["Id"].as_str().context("no id")?.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
