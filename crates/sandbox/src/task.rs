//! Tasks of the agent, and what they read and write.

use bytes::{Buf, BytesMut};
use guest_protocol::{Call, MAX_TASK_MESSAGE, ProcessId, Reply, Task, TaskFailure, decode, decode_length};
use serde::de::DeserializeOwned;

use crate::guest::unexpected;
use crate::{Guest, InputStream, OutputStream, Result, Sandbox, SandboxError, StreamKind};

/// A task that was started. When it is dropped it is ended, if it has not ended by itself, and forgotten.
#[derive(Debug)]
pub struct RunningTask {
    guard: Guard,
    stdout: OutputStream,
    stderr: OutputStream,
    buffer: BytesMut,
    /// How much of its output has arrived.
    offset: u64,
    /// What it has said of its failure.
    message: BytesMut,
}

impl Sandbox {
    /// Starts a task under an id that no process has had.
    pub async fn start_task(&self, id: ProcessId, task: Task) -> Result<RunningTask> {
        match self.guest().send(Call::StartTask { id, task }).await? {
            Reply::Started { .. } => {}
            other => return Err(unexpected("start a task", &other)),
        }
        let guard = Guard {
            guest: self.guest().clone(),
            id,
            is_over: false,
        };
        let (stdout, stderr) = tokio::try_join!(
            self.output(id, StreamKind::Stdout, 0),
            self.output(id, StreamKind::Stderr, 0)
        )?;
        Ok(RunningTask {
            guard,
            stdout,
            stderr,
            buffer: BytesMut::new(),
            offset: 0,
            message: BytesMut::new(),
        })
    }

    /// Opens what a task reads.
    pub async fn task_input(&self, task: &RunningTask) -> Result<InputStream> {
        self.input(task.guard.id).await
    }
}

impl RunningTask {
    /// The next bytes that it writes; `None` at the end. Memory is taken for no more than one piece.
    pub async fn read(&mut self) -> Result<Option<BytesMut>> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        Ok(Some(self.buffer.split()))
    }

    /// The next frame that it writes; `None` when its output ends before one.
    pub async fn read_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        const ACTION: &str = "read what a task writes";
        loop {
            if let Some((prefix, rest)) = self.buffer.split_first_chunk::<4>() {
                let length = decode_length(*prefix).map_err(SandboxError::protocol(ACTION))?;
                if let Some(payload) = rest.get(..length) {
                    let frame = decode(payload).map_err(SandboxError::protocol(ACTION))?;
                    self.buffer.advance(4 + length);
                    return Ok(Some(frame));
                }
            }
            if !self.fill().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(SandboxError::connection(ACTION)(
                        std::io::ErrorKind::UnexpectedEof.into(),
                    )),
                };
            }
        }
    }

    /// Waits for its end. What it still writes is left unread, so it should be all read, or it must be one that writes
    /// nothing. May be dropped and called again without loss.
    pub async fn end(&mut self) -> Result<()> {
        let guest = &self.guard.guest;
        let (status, ()) = tokio::join!(
            guest.exited(self.guard.id),
            read_message(&mut self.stderr, &mut self.message)
        );
        match status?.code {
            0 => Ok(()),
            code => Err(SandboxError::Task {
                failure: TaskFailure::from_code(code),
                message: match &self.message {
                    message if message.is_empty() => format!("the guest has ended the task with {code}"),
                    message => String::from_utf8_lossy(message).into_owned(),
                },
            }),
        }
    }

    /// Ends it, and waits until nothing of it is left. The end of the microVM is that of the task, too.
    pub async fn give_up(mut self) {
        self.guard.end().await;
        self.guard.is_over = true;
    }

    /// Reads more of its output into the buffer; false at the end.
    async fn fill(&mut self) -> Result<bool> {
        let count = self.stdout.read(&mut self.buffer).await?;
        self.offset += count as u64;
        // A failure is the end of the microVM, which the next read tells.
        let _ = self.stdout.acknowledge(self.offset).await;
        Ok(count > 0)
    }
}

/// Reads all that it says of a failure, within bounds: the guest may be anybody's.
async fn read_message(stderr: &mut OutputStream, message: &mut BytesMut) {
    while message.len() < MAX_TASK_MESSAGE {
        match stderr.read(message).await {
            Ok(1..) => {}
            _ => break,
        }
    }
    message.truncate(MAX_TASK_MESSAGE);
}

/// Ends and forgets a task when dropped.
#[derive(Debug)]
struct Guard {
    guest: Guest,
    id: ProcessId,
    /// It is forgotten: nobody would ever tell of its end again.
    is_over: bool,
}

impl Guard {
    /// Asks for its end at once; the future forgets it.
    fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        const KILL: i32 = 9;
        let (guest, id) = (self.guest.clone(), self.id);
        let killed = guest.signal(id, KILL);
        async move {
            // It may have ended by itself.
            let _ = killed.await;
            if guest.exited(id).await.is_ok() {
                let _ = guest.forget(id).await;
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Without a runtime the microVM is on its own, and so is whoever comes back to it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.end());
        }
    }
}
