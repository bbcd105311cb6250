//! Seeing a VMM end, and asking it things.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;
use vm_spec::control::{MAX_DESCRIPTORS, Request, Response};

use crate::launch::control_socket;
use crate::process::Process;
use crate::{Clock, Result, SandboxEnd, SandboxError, Step, cgroup};

/// The longest answer on a control socket.
const MAX_RESPONSE: u64 = 64 * 1024;
/// What fails when the VMM does not answer.
const ASK: &str = "ask the VMM";
/// A VMM that has not answered for this long does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A device may be plugged in before the VMM is up; whoever waits for its agent gives up earlier.
const PLUG_TIMEOUT: Duration = Duration::from_secs(120);

/// How the end of a VMM is seen.
pub(crate) enum Watch {
    /// This process spawned it: it has to be reaped.
    Child(Child),
    /// Another process did: this connection to its control socket ends with it.
    Connection(UnixStream),
}

/// A VMM to wait for.
pub(crate) struct Supervised {
    pub(crate) process: std::sync::Arc<Process>,
    pub(crate) watch: Watch,
    pub(crate) folder: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) clock: Clock,
    pub(crate) end: watch::Sender<Option<SandboxEnd>>,
}

impl Supervised {
    /// Waits for the end of the process, cleans up after it, and tells its end.
    pub(crate) async fn run(self) {
        match self.watch {
            // There is no other way to fail than that the child was reaped already.
            Watch::Child(mut child) => drop(child.wait().await),
            Watch::Connection(mut connection) => {
                // Nothing is asked on it, so nothing but its end arrives. A process closes its sockets a little
                // before it is gone.
                let _ = connection.read(&mut [0]).await;
                let process = self.process.clone();
                let _ = tokio::task::spawn_blocking(move || process.wait()).await;
            }
        }
        self.clock.mark(Step::Gone);
        let end = SandboxEnd::read(&self.folder, self.cgroup.as_deref());
        if let Some(cgroup) = self.cgroup {
            remove_cgroup(cgroup).await;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.runtime)
            // Whoever ends a stray microVM removes its folder.
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.runtime.display(), %error, "cannot remove the sockets of a microVM");
        }
        self.end.send_replace(Some(end));
    }
}

/// Removes the control group of a VMM that is gone.
pub(crate) async fn remove_cgroup(group: PathBuf) {
    let name = group.display().to_string();
    // A group that is empty takes no time.
    let removed = tokio::task::spawn_blocking(move || cgroup::remove(&group)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(group = name, %error, "the control group of a microVM stays");
    }
}

/// Asks the VMM with this runtime folder one thing, on a connection of its own, so that a caller who gives up leaves
/// no answer behind for the next one.
pub(crate) async fn ask(runtime: &Path, request: Request) -> Result<Response> {
    in_time(ANSWER_TIMEOUT, ask_patiently(runtime, request)).await
}

/// Plugs a network device into these descriptors.
pub(crate) async fn plug(runtime: &Path, device: String, queues: &[BorrowedFd<'_>]) -> Result<Response> {
    in_time(PLUG_TIMEOUT, exchange(runtime, Request::Plug { device }, queues)).await
}

/// Adds files to those that the guest sees on a device.
pub(crate) async fn add_layers(
    runtime: &Path,
    device: String,
    names: Vec<String>,
    files: &[BorrowedFd<'_>],
) -> Result<Response> {
    let request = Request::AddLayers { device, names };
    in_time(ANSWER_TIMEOUT, exchange(runtime, request, files)).await
}

async fn in_time(limit: Duration, answer: impl Future<Output = Result<Response>>) -> Result<Response> {
    let answer = tokio::time::timeout(limit, answer).await;
    answer.unwrap_or_else(|_| {
        Err(SandboxError::Connection {
            action: ASK,
            source: std::io::ErrorKind::TimedOut.into(),
        })
    })
}

/// The same, for what takes as long as it takes.
pub(crate) async fn ask_patiently(runtime: &Path, request: Request) -> Result<Response> {
    exchange(runtime, request, &[]).await
}

async fn exchange(runtime: &Path, request: Request, descriptors: &[BorrowedFd<'_>]) -> Result<Response> {
    let exchange = async {
        let mut stream = UnixStream::connect(control_socket(runtime)).await?;
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        let sent = send(&stream, &line, descriptors).await?;
        stream.write_all(&line[sent..]).await?;
        let mut answer = String::new();
        BufReader::new(stream.take(MAX_RESPONSE))
            .read_line(&mut answer)
            .await?;
        Ok(serde_json::from_str(&answer)?)
    };
    exchange.await.map_err(SandboxError::connection(ASK))
}

/// Sends bytes with descriptors along; returns how many bytes went.
async fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<usize> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        Ok(sendmsg(
            stream,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?)
    };
    stream.async_io(Interest::WRITABLE, send).await
}
