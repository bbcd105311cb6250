//! All sockets that the API is served on: those of `--host`, and those that a service manager hands over.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use docker_api::Listener;
use endpoint::TcpAddress;
use listenfd::ListenFd;

use crate::host::Host;
use crate::socket::{ApiSocket, SocketError};
use crate::tls::{ServedTls, TcpPolicy, TlsError};

/// The sockets that this process was started with. Taken once, before there is a second thread: it changes the
/// environment, which this process's children must not take for theirs.
pub(crate) struct Inherited(ListenFd);

/// What is listened on; the unix sockets made here go with it.
pub(crate) struct Listeners {
    /// Ready to be served.
    pub(crate) sockets: Vec<Listener>,
    /// Their addresses.
    pub(crate) addresses: Vec<String>,
    /// That of the TCP ports, if they have one.
    pub(crate) tls: Option<ServedTls>,
    _files: Vec<ApiSocket>,
}

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {host}: {source}")]
    Tcp { host: String, source: io::Error },
    #[error(
        "--host fd:// takes the sockets of a systemd socket unit, and this process got none (LISTEN_FDS): start it \
         through its socket unit, or name a socket with --host unix://PATH"
    )]
    NothingInherited,
    #[error(
        "socket {number} of the service manager (LISTEN_FDS) cannot be used: {source}; a stream socket is needed"
    )]
    Inherited { number: usize, source: io::Error },
}

impl Inherited {
    /// Takes them from the environment.
    pub(crate) fn take() -> Self {
        Self(ListenFd::from_env())
    }
}

impl Listeners {
    /// Binds all `hosts`.
    pub(crate) fn bind(
        hosts: &[Host],
        policy: &TcpPolicy,
        inherited: &mut Inherited,
    ) -> Result<Self, ListenError> {
        let mut binding = Binding {
            policy,
            listeners: Self {
                sockets: Vec::new(),
                addresses: Vec::new(),
                tls: match policy {
                    TcpPolicy::Verified(files) => Some(ServedTls::load(files)?),
                    TcpPolicy::Open | TcpPolicy::Undecided => None,
                },
                _files: Vec::new(),
            },
        };
        for host in hosts {
            match host {
                Host::Unix(path) => binding.unix(path)?,
                Host::Tcp(address) => binding.tcp(address)?,
                Host::Inherited => binding.inherited(&mut inherited.0)?,
            }
        }
        Ok(binding.listeners)
    }
}

/// Sockets being bound.
struct Binding<'a> {
    policy: &'a TcpPolicy,
    listeners: Listeners,
}

impl Binding<'_> {
    fn unix(&mut self, path: &Path) -> Result<(), ListenError> {
        let (file, listener) = ApiSocket::bind(path)?;
        self.add(Listener::unix(listener), Host::Unix(path.to_owned()).to_string());
        self.listeners._files.push(file);
        Ok(())
    }

    fn tcp(&mut self, address: &TcpAddress) -> Result<(), ListenError> {
        // Nobody may connect to a port that is refused in the next moment.
        let host = format!("tcp://{address}");
        self.allow_tcp(&host)?;
        let port = address.port(self.listeners.tls.is_some());
        let bound =
            TcpListener::bind((address.host.as_str(), port)).and_then(|listener| self.add_tcp(listener));
        bound.map_err(|source| ListenError::Tcp { host, source })
    }

    fn inherited(&mut self, sockets: &mut ListenFd) -> Result<(), ListenError> {
        if sockets.len() == 0 {
            return Err(ListenError::NothingInherited);
        }
        for number in 0..sockets.len() {
            let failed = |source| ListenError::Inherited { number, source };
            // The crate looks at what kind of socket it is.
            if let Ok(Some(listener)) = sockets.take_unix_listener(number) {
                self.add_unix(listener).map_err(failed)?;
            } else if let Some(listener) = sockets.take_tcp_listener(number).map_err(failed)? {
                let address = listener.local_addr().map_err(failed)?;
                self.allow_tcp(&format!("tcp://{address}"))?;
                self.add_tcp(listener).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn allow_tcp(&self, address: &str) -> Result<(), TlsError> {
        match self.policy {
            TcpPolicy::Undecided => Err(TlsError::Undecided(address.to_owned())),
            TcpPolicy::Open => {
                tracing::warn!("{address} is served without TLS: who reaches it is root on this host");
                Ok(())
            }
            TcpPolicy::Verified(_) => Ok(()),
        }
    }

    fn add_unix(&mut self, listener: UnixListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        let path = address.as_pathname().map_or_else(PathBuf::new, Path::to_owned);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        // Its file belongs to who made it.
        self.add(Listener::unix(listener), Host::Unix(path).to_string());
        Ok(())
    }

    fn add_tcp(&mut self, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let tls = self.listeners.tls.as_ref().map(ServedTls::config);
        let open = if tls.is_some() { "" } else { " without TLS" };
        self.add(Listener::tcp(listener, tls), format!("tcp://{address}{open}"));
        Ok(())
    }

    fn add(&mut self, listener: Listener, address: String) {
        self.listeners.sockets.push(listener);
        self.listeners.addresses.push(address);
    }
}
