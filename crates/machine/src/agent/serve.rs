//! The agent: the VM's end of the link.

use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit};
use tokio::sync::{mpsc, watch};

use super::async_file::AsyncFile;
use super::daemon::{Daemon, DaemonError};
use super::host_ports::{self, HostPorts};
use super::network::{self, NetworkError};
use super::storage::{self, StorageError};
use super::{HOST_PORTS_SOCKET, loopback, port, shell};
use crate::host_settings::HostSettings;
use crate::link::{LinkEnd, LinkStream, Opener, link, splice};
use crate::protocol::{Event, Message, ProtocolError, Request};

/// Files that this process may have open: a socket for each stream of the link, and one for each port that hulld has on the host.
const MAX_DESCRIPTORS: u64 = 16 * 1024;

/// The agent cannot go on; the VM shuts down.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The channel to the host cannot be used.
    #[error("cannot use the virtio-serial port to the host: {0}")]
    Port(io::Error),
    /// The host is gone, or does not keep to the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// What keeps the VM from being of use; told to the host.
#[derive(Debug, thiserror::Error)]
enum BringUpError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("cannot have connections to loopback addresses go to the host: {0}")]
    Loopback(io::Error),
    #[error("cannot listen on {HOST_PORTS_SOCKET} in the helper VM: {0}")]
    HostPorts(io::Error),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("cannot set the helper VM up: {0}")]
    Io(#[from] io::Error),
}

/// Serve the host until it says stop or is gone.
pub async fn serve() -> Result<(), ServeError> {
    raise_descriptor_limit();
    let port = tokio::task::spawn_blocking(port::open)
        .await
        .map_err(io::Error::other)
        .and_then(|inner| inner);
    let channel = port.and_then(AsyncFile::new).map_err(ServeError::Port)?;
    let (opener, mut accepted, driver) = link(channel, LinkEnd::Guest);
    let mut link_ends = tokio::spawn(driver);
    let (set_daemon, daemon) = watch::channel(None);
    let (set_settings, settings) = watch::channel(None);
    let (stop, mut stopped) = mpsc::channel(1);
    let host_ports = HostPorts::new();
    let bring_up = bring_up_and_tell(opener.clone(), settings, host_ports.clone(), set_daemon);
    let mut up = tokio::spawn(bring_up);
    let front = Front {
        daemon,
        set_settings,
        host_ports,
        stop,
    };
    loop {
        tokio::select! {
            Some(stream) = accepted.recv() => {
                tokio::spawn(front.clone().answer(stream));
            }
            // When the host hears of a failure it ends the VM; until then the shell may help to see why.
            Ok(Err(e)) = &mut up, if !up.is_finished() => return Err(e.into()),
            _ = stopped.recv() => return Ok(()),
            _ = &mut link_ends => return Ok(()),
        }
    }
}

/// Mount, start hulld, and tell the host of each step on a stream of its own.
async fn bring_up_and_tell(
    opener: Opener,
    settings: watch::Receiver<Option<HostSettings>>,
    host_ports: HostPorts,
    set_daemon: watch::Sender<Option<Daemon>>,
) -> Result<(), ProtocolError> {
    let mut events = opener.open().await.map_err(io::Error::other)?;
    let (say, mut said) = mpsc::unbounded_channel();
    let bring_up = async move {
        let result = bring_up(say, settings, &host_ports).await;
        result.map(|daemon| set_daemon.send_replace(Some(daemon)))
    };
    let tell = async {
        while let Some(step) = said.recv().await {
            Message::Event(Event::Progress(step)).send(&mut events).await?;
        }
        Ok::<_, ProtocolError>(())
    };
    let (result, told) = tokio::join!(bring_up, tell);
    told?;
    let event = match result {
        Ok(_) => Event::Ready,
        Err(e) => Event::Failed(e.to_string()),
    };
    Message::Event(event).send(&mut events).await
}

async fn bring_up(
    say: mpsc::UnboundedSender<String>,
    mut settings: watch::Receiver<Option<HostSettings>>,
    host_ports: &HostPorts,
) -> Result<Daemon, BringUpError> {
    rustix::system::sethostname(b"hull-machine").map_err(io::Error::from)?;
    let tell = say.clone();
    let mounting = tokio::task::spawn_blocking(move || {
        storage::mount_all(&|step| {
            // The host may be gone; then the VM ends anyway.
            let _ = tell.send(step);
        })
    });
    network::configure().await?;
    loopback::send_to_host().map_err(BringUpError::Loopback)?;
    mounting.await.map_err(io::Error::other)??;
    network::write_resolver()?;
    let socket = Path::new(HOST_PORTS_SOCKET);
    host_ports.listen(socket).map_err(BringUpError::HostPorts)?;
    let known = settings.wait_for(Option::is_some).await;
    let settings = known.map_err(io::Error::other)?.clone().unwrap_or_default();
    Ok(Daemon::start(settings).await?)
}

/// What streams that the host opens are answered with.
#[derive(Clone)]
struct Front {
    daemon: watch::Receiver<Option<Daemon>>,
    set_settings: watch::Sender<Option<HostSettings>>,
    host_ports: HostPorts,
    stop: mpsc::Sender<()>,
}

impl Front {
    /// Serve one stream.
    async fn answer(self, mut stream: LinkStream) {
        let result = match Message::receive(&mut stream).await {
            Ok(Some(Message::Request(request))) => self.serve(stream, request).await,
            Ok(Some(other)) => refuse(&mut stream, &other).await,
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            eprintln!("machine-agent: {e}");
        }
    }

    async fn serve(self, mut stream: LinkStream, request: Request) -> Result<(), ProtocolError> {
        match request {
            Request::Api => self.api(&mut stream).await,
            Request::Shell(spec) => shell::run(stream, spec).await,
            Request::Stop => {
                // A second request changes nothing.
                let _ = self.stop.try_send(());
                Ok(())
            }
            Request::Configure(settings) => {
                self.set_settings.send_replace(Some(settings));
                Ok(())
            }
            Request::CountMicroVms => {
                let count = self.daemon()?.micro_vms()?;
                Message::MicroVms(count).send(&mut stream).await
            }
            Request::Pulse => Message::Alive.send(&mut stream).await,
            Request::HostPorts => self.host_ports.carry(stream).await,
            Request::Connect(port) => host_ports::connect(stream, &port).await,
            Request::Status | Request::StopIfIdle => refuse(&mut stream, &Message::Request(request)).await,
        }
    }

    /// Join a client of the Docker Engine API with hulld. When either is gone altogether, dropping the stream
    /// resets it, and the other learns of it too.
    async fn api(&self, stream: &mut LinkStream) -> Result<(), ProtocolError> {
        let mut hulld = self.daemon()?.connect().await?;
        // An error here is one side hanging up: the ordinary end of many connections.
        let _ = splice(stream, &mut hulld).await;
        Ok(())
    }

    fn daemon(&self) -> io::Result<Daemon> {
        let up = self.daemon.borrow().clone();
        up.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "hulld is not up yet"))
    }
}

async fn refuse(stream: &mut LinkStream, message: &Message) -> Result<(), ProtocolError> {
    Message::Error(format!("{message:?} is not for the helper VM"))
        .send(stream)
        .await
}

/// The kernel gives the first process, and so this one, 1024.
fn raise_descriptor_limit() {
    let limit = Rlimit {
        current: Some(MAX_DESCRIPTORS),
        maximum: Some(MAX_DESCRIPTORS),
    };
    if let Err(e) = rustix::process::setrlimit(Resource::Nofile, limit) {
        // The lower limit serves all but a flood.
        eprintln!("machine-agent: cannot raise the limit of open files: {e}");
    }
}
