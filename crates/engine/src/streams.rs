//! The streams of one run of a process, and the clients on them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use sandbox::StreamKind;

use crate::container::Live;
use crate::detach::DetachKeys;
use crate::hub::{Hub, Subscription};
use crate::log::{LogReader, LogWriter, Offsets};
use crate::stdin::Stdin;
use crate::{Attachment, EngineError, InputOutcome, OutputChunk, OutputStream, Result};

/// Output up to this size is logged without a thread: for the few lines that most containers write, that costs more
/// than the write into the page cache.
const LOG_AT_ONCE: usize = 4096;

/// The streams of one run of a process. Clients may come before it starts.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) hub: Hub,
    pub(crate) stdin: Stdin,
    pub(crate) spec: StreamsSpec,
}

/// Which streams a process has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamsSpec {
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    /// Whether stdin ends with the first client that was attached to it.
    pub(crate) stdin_once: bool,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(crate) struct ClientSpec {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) detach_keys: Option<String>,
    pub(crate) detached: Detached,
}

impl Streams {
    pub(crate) fn new(spec: StreamsSpec) -> Arc<Streams> {
        Arc::new(Streams {
            hub: Hub::default(),
            stdin: Stdin::new(),
            spec,
        })
    }

    /// Adds a client.
    pub(crate) fn attach(self: &Arc<Self>, client: &ClientSpec) -> Result<Attachment> {
        let detach = match self.spec.terminal {
            true => Some(DetachKeys::parse(client.detach_keys.as_deref())?),
            false => None,
        };
        let subscription = self.hub.subscribe(client.stdout, client.stderr);
        let input = (client.stdin && self.spec.stdin).then(|| AttachInput {
            streams: self.clone(),
            client: subscription.id,
            detach,
            detached: client.detached.clone(),
        });
        let output = AttachOutput {
            history: None,
            skip: Offsets::default(),
            live: Some(subscription),
        };
        Ok(Attachment {
            terminal: self.spec.terminal,
            output,
            input,
        })
    }

    /// Ends every client.
    pub(crate) fn close(&self) {
        self.stdin.close();
        self.hub.close();
    }
}

/// What the process of an [`Attachment`] writes. Memory for at most 256 KiB is taken by a client that reads slowly;
/// the process then waits.
#[derive(Debug)]
pub struct AttachOutput {
    history: Option<History>,
    /// Up to where the history went: what comes live before that was told already.
    skip: Offsets,
    live: Option<Subscription>,
}

/// What was written before a client came.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) log: LogReader,
    /// Begun lines, which are not in the log yet.
    pub(crate) begun: Vec<OutputChunk>,
    /// Up to where log and begun lines go.
    pub(crate) upto: Offsets,
}

impl AttachOutput {
    /// Output that is only what was written before.
    pub(crate) fn past(history: History) -> AttachOutput {
        AttachOutput {
            history: Some(history),
            skip: Offsets::default(),
            live: None,
        }
    }

    /// No output at all.
    pub(crate) fn nothing() -> AttachOutput {
        AttachOutput {
            history: None,
            skip: Offsets::default(),
            live: None,
        }
    }

    /// Has what was written before come first.
    pub(crate) fn precede(&mut self, history: History) {
        self.skip = history.upto;
        self.history = Some(history);
    }

    /// The next piece; `None` when there will be no more. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        if let Some(history) = &mut self.history {
            match history.log.next().await {
                Ok(Some(record)) => {
                    return Some(OutputChunk {
                        stream: record.stream,
                        bytes: record.bytes,
                    });
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a client does not get what was written before it came"),
            }
            if let Some(chunk) = history.begun.pop() {
                return Some(chunk);
            }
            self.history = None;
        }
        loop {
            let piece = self.live.as_mut()?.next().await?;
            let mut chunk = piece.chunk;
            let told = self.skip.get(chunk.stream).saturating_sub(piece.offset);
            if told < chunk.bytes.len() as u64 {
                chunk.bytes.advance(told as usize);
                return Some(chunk);
            }
        }
    }
}

/// Where the input of an [`Attachment`] goes.
#[derive(Debug)]
pub struct AttachInput {
    streams: Arc<Streams>,
    client: u64,
    detach: Option<DetachKeys>,
    detached: Detached,
}

/// What is told when the client detaches.
#[derive(Clone, Debug, Default)]
pub(crate) enum Detached {
    /// Nothing.
    #[default]
    Nothing,
    /// That it has left a container.
    Container(Arc<Live>),
    /// That it has left an exec, which has this id, in a container.
    Exec(Arc<Live>, String),
}

impl Detached {
    fn tell(&self) {
        match self {
            Self::Nothing => {}
            Self::Container(live) => live.tell("detach", []),
            Self::Exec(live, id) => live.tell("exec_detach", [("execID", id.clone())]),
        }
    }
}

impl AttachInput {
    /// Sends bytes; waits while the process does not run yet, or does not read.
    pub async fn write(&mut self, bytes: Bytes) -> InputOutcome {
        let (pass, detached) = match &mut self.detach {
            Some(keys) => {
                let typed = keys.scan(&bytes);
                (typed.pass, typed.detached)
            }
            None => (bytes, false),
        };
        let written = pass.is_empty() || self.streams.stdin.write(&pass).await;
        if detached {
            self.streams.hub.remove(self.client);
            self.detached.tell();
            return InputOutcome::Detached;
        }
        if written {
            InputOutcome::Taken
        } else {
            InputOutcome::Closed
        }
    }

    /// The client has said that there is no more. The process reads end of file if its stdin ends with its first
    /// client; otherwise the client's output ends, as Docker has it.
    pub async fn close(self) {
        if self.streams.spec.stdin_once && !self.streams.spec.terminal {
            self.streams.stdin.end().await;
        } else {
            self.streams.hub.remove(self.client);
        }
    }
}

/// Where the output of a process goes.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) streams: Arc<Streams>,
    /// The log, if there is one.
    pub(crate) log: Option<Arc<Mutex<LogWriter>>>,
}

impl Sink {
    /// Carries a stream from `offset` to its end. `arrived` is called with every piece.
    pub(crate) async fn carry(
        &self,
        stream: OutputStream,
        mut from: sandbox::OutputStream,
        mut offset: u64,
        arrived: impl Fn(),
    ) {
        let mut buffer = BytesMut::with_capacity(sandbox::READ_SIZE);
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(_) => arrived(),
                Err(error) => {
                    tracing::warn!(%error, "the output of a process is cut");
                    break;
                }
            }
            let bytes = buffer.split().freeze();
            // Logged first: a client that comes now finds this piece in the log or gets it live.
            let logged = self.log(stream, &bytes).await;
            self.streams.hub.send(stream, offset, &bytes).await;
            offset += bytes.len() as u64;
            // Only when the agent is gone, which the next read tells.
            let _ = from.acknowledge(logged.unwrap_or(offset)).await;
        }
        if let Some(log) = &self.log {
            lock(log).end(stream);
        }
    }

    /// Logs; how much of the stream is in the log now.
    async fn log(&self, stream: OutputStream, bytes: &Bytes) -> Option<u64> {
        let log = self.log.clone()?;
        if bytes.len() <= LOG_AT_ONCE {
            return Some(write(&log, stream, bytes));
        }
        let bytes = bytes.clone();
        tokio::task::spawn_blocking(move || write(&log, stream, &bytes))
            .await
            .ok()
    }
}

fn write(log: &Mutex<LogWriter>, stream: OutputStream, bytes: &[u8]) -> u64 {
    let mut log = lock(log);
    log.write(stream, bytes);
    log.logged().get(stream)
}

/// The agent's word for a stream.
pub(crate) fn kind(stream: OutputStream) -> StreamKind {
    match stream {
        OutputStream::Stdout => StreamKind::Stdout,
        OutputStream::Stderr => StreamKind::Stderr,
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work on a blocking thread, with its result.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(EngineError::Internal(format!("{what}: {error}"))))
}
