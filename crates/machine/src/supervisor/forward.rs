//! What the supervisor listens on: the API socket and its own control socket.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::host_ports::MAX_PORT_STREAMS;
use super::{SupervisorError, file};
use crate::dirs::MachineDirs;
use crate::link::{COPY_BUFFER, MAX_STREAMS, Opener};
use crate::protocol::{MachineStatus, Message, ProtocolError, Request};

/// Connections forwarded at a time; the rest wait in the socket's backlog. A few streams are kept for the
/// supervisor itself, and those of published ports are none of the API's.
const MAX_CONNECTIONS: usize = MAX_STREAMS - MAX_PORT_STREAMS - 16;
/// Pause after `accept` failed, which it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The two listening sockets of a running VM.
pub(super) struct Front {
    api: UnixListener,
    control: UnixListener,
    paths: [PathBuf; 3],
    opener: Opener,
    connections: Arc<Semaphore>,
}

impl Front {
    /// Listen. The caller holds the lock and has removed stale sockets.
    pub(super) fn open(dirs: &MachineDirs, opener: Opener) -> Result<Self, SupervisorError> {
        if let Some(folder) = dirs.api_socket.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(file("create the folder", folder))?;
        }
        let listen = |path: &Path| UnixListener::bind(path).map_err(file("listen on", path));
        Ok(Front {
            api: listen(&dirs.api_socket)?,
            control: listen(&dirs.control_socket())?,
            paths: [
                dirs.api_socket.clone(),
                dirs.control_socket(),
                dirs.virtiofs_socket(),
            ],
            opener,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Serve both sockets until somebody asks to stop; returns the connection that waits for the answer.
    pub(super) async fn serve(&self, status: &impl Fn() -> MachineStatus) -> UnixStream {
        let (stop, mut stops) = mpsc::channel(1);
        loop {
            tokio::select! {
                client = self.accept(&self.api) => self.forward_api(client).await,
                client = self.accept(&self.control) => {
                    let traffic = Traffic { opener: self.opener.clone(), connections: Arc::clone(&self.connections) };
                    tokio::spawn(answer(client, status(), traffic, stop.clone()));
                }
                Some(client) = stops.recv() => return client,
            }
        }
    }

    async fn accept(&self, listener: &UnixListener) -> UnixStream {
        loop {
            match listener.accept().await {
                Ok((client, _)) => return client,
                Err(e) => {
                    eprintln!("cannot accept a connection: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn forward_api(&self, client: UnixStream) {
        let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else {
            return;
        };
        let opener = self.opener.clone();
        tokio::spawn(async move {
            if let Err(e) = forward(client, &Request::Api, &opener).await {
                eprintln!("an API connection broke: {e}");
            }
            drop(permit);
        });
    }

    /// Remove the sockets.
    pub(super) fn close(&self) {
        for path in &self.paths {
            // The next start removes what stays.
            let _ = fs::remove_file(path);
        }
    }
}

/// Answer one connection on the control socket.
async fn answer(
    mut client: UnixStream,
    status: MachineStatus,
    traffic: Traffic,
    stop: mpsc::Sender<UnixStream>,
) {
    let result = match Message::receive(&mut client).await {
        Ok(Some(Message::Request(Request::Status))) => Message::Status(status).send(&mut client).await,
        Ok(Some(Message::Request(Request::Stop))) => {
            // A second one who asks is answered by the end of the connection.
            let _ = stop.try_send(client);
            Ok(())
        }
        Ok(Some(Message::Request(Request::StopIfIdle))) => match traffic.what_goes_on().await {
            Some(reason) => Message::Busy(reason).send(&mut client).await,
            None => {
                let _ = stop.try_send(client);
                Ok(())
            }
        },
        Ok(Some(Message::Request(Request::HostPorts | Request::Connect(_)))) => {
            Message::Error("ports of the host are hulld's affair".to_owned())
                .send(&mut client)
                .await
        }
        Ok(Some(Message::Request(request))) => {
            let _permit = traffic.connections.acquire().await;
            forward(client, &request, &traffic.opener).await
        }
        Ok(Some(_)) => {
            Message::Error("expected a request".to_owned())
                .send(&mut client)
                .await
        }
        Ok(None) => Ok(()),
        Err(e) => Err(e),
    };
    if let Err(e) = result {
        eprintln!("a control connection broke: {e}");
    }
}

/// What goes on between the host and the VM.
struct Traffic {
    opener: Opener,
    /// A permit is out for each connection that is forwarded.
    connections: Arc<Semaphore>,
}

impl Traffic {
    /// Why the VM cannot be stopped without somebody noticing; `None` when it can.
    async fn what_goes_on(&self) -> Option<String> {
        if let Some(reason) = self.open_connections() {
            return Some(reason);
        }
        match self.count_micro_vms().await {
            Ok(0) => {}
            Ok(1) => return Some("a microVM runs in it".to_owned()),
            Ok(count) => return Some(format!("{count} microVMs run in it")),
            Err(e) => return Some(format!("it does not say whether microVMs run in it: {e}")),
        }
        // One may have come meanwhile.
        self.open_connections()
    }

    fn open_connections(&self) -> Option<String> {
        match MAX_CONNECTIONS - self.connections.available_permits() {
            0 => None,
            1 => Some("another command uses it".to_owned()),
            count => Some(format!("{count} other commands use it")),
        }
    }

    async fn count_micro_vms(&self) -> Result<u32, ProtocolError> {
        let mut stream = self.opener.open().await.map_err(io::Error::other)?;
        Message::Request(Request::CountMicroVms).send(&mut stream).await?;
        match Message::receive(&mut stream).await? {
            Some(Message::MicroVms(count)) => Ok(count),
            _ => Err(io::Error::other("no answer").into()),
        }
    }
}

/// Carry a connection into the VM, where `request` says what it is for.
///
/// The end of either direction is passed on by itself. A client that is gone altogether resets the stream,
/// so that the daemon inside sees it go as it would on a socket of its own.
async fn forward(client: UnixStream, request: &Request, opener: &Opener) -> Result<(), ProtocolError> {
    let mut stream = opener.open().await.map_err(io::Error::other)?;
    stream
        .write_all(&Message::Request(request.clone()).encode()?)
        .await?;
    let hang_up = HangUp::of(&client)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_vm, mut to_vm) = tokio::io::split(stream);
    let mut inwards = std::pin::pin!(pump(&mut from_client, &mut to_vm));
    let mut outwards = std::pin::pin!(pump(&mut from_vm, &mut to_client));
    tokio::select! {
        result = &mut outwards => {
            result?;
            inwards.await?;
        }
        result = &mut inwards => {
            result?;
            tokio::select! {
                result = outwards => result?,
                gone = hang_up.wait() => gone?,
            }
        }
    }
    Ok(())
}

async fn pump(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut from = tokio::io::BufReader::with_capacity(COPY_BUFFER, from);
    tokio::io::copy_buf(&mut from, to).await?;
    to.shutdown().await
}

/// Notices that the other end of a socket is closed, not only that it sends no more.
struct HangUp(UnixStream);

impl HangUp {
    /// Watches a duplicate, so that the readiness seen here is not taken away from the socket's own reader.
    fn of(socket: &UnixStream) -> io::Result<Self> {
        let duplicate = socket.as_fd().try_clone_to_owned()?;
        UnixStream::from_std(duplicate.into()).map(HangUp)
    }

    async fn wait(&self) -> io::Result<()> {
        loop {
            if self.0.ready(Interest::WRITABLE).await?.is_write_closed() {
                return Ok(());
            }
            // Forget that it can be written to, and wait for the next change.
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.0.try_io(Interest::WRITABLE, forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn a_half_closed_client_is_not_a_hang_up_and_a_closed_one_is() {
        run(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let hang_up = HangUp::of(&ours).unwrap();
            theirs.shutdown().await.unwrap();
            assert!(timeout(Duration::from_millis(100), hang_up.wait()).await.is_err());
            drop(theirs);
            timeout(Duration::from_secs(5), hang_up.wait())
                .await
                .unwrap()
                .unwrap();
        });
    }
}
