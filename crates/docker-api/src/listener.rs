//! Where clients come in: a unix socket, or TCP with or without TLS; and what the three have in common.
//!
//! A listener has places for so many clients; who finds none waits in the kernel's queue, where it costs hulld nothing. Those
//! who come when most are taken have little time to say what they want, so that silent ones keep nobody out.
//! Anybody may reach a TCP port: until a client has shown its certificate it costs one of few places more, for a short time.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// How long a client may take from its connection to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many clients may be in their handshake at the same time, for each port.
const HANDSHAKES: usize = 64;
/// How many connections a TCP port has at the same time, where there are descriptors enough.
const TCP_CONNECTIONS: usize = 1024;
/// The same for a unix socket: an attached client has three, and there may be a thousand.
const UNIX_CONNECTIONS: usize = 4096;
/// For how many descriptors of this process a listener has one place: a connection takes two, and containers need the rest.
const DESCRIPTORS_EACH: u64 = 4;
/// The part of the places that is kept for clients that come to the point: one over this.
const LAST_PLACES_PART: usize = 4;
/// How long a client may take to send the head of a request, and how long a connection may be idle, as with Docker.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same for those who come when only the last places are left.
const LITTLE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may be silent before the kernel asks whether the client is still there.
const IDLE: Duration = Duration::from_secs(30);
/// The answer to a client that speaks HTTP where TLS is spoken.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// A bound socket that the API is served on.
pub struct Listener {
    kind: Kind,
    places: Places,
}

enum Kind {
    Unix(UnixListener),
    Tcp(TcpPort),
}

struct TcpPort {
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    handshakes: Arc<Semaphore>,
}

/// How many clients may be there.
struct Places {
    free: Arc<Semaphore>,
    all: usize,
}

/// A client's place.
struct Place {
    _held: OwnedSemaphorePermit,
    patience: Duration,
}

/// A client that has connected and has said nothing yet.
pub(crate) struct Incoming {
    socket: Socket,
    tls: Option<TlsAcceptor>,
    /// Held while the connection lasts.
    place: Place,
    /// Held until it is known who the client is.
    handshake: Option<OwnedSemaphorePermit>,
}

enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

/// A client's connection, whatever carries it.
pub(crate) struct Connection {
    stream: Stream,
    place: Option<Place>,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a client that connected is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0} did not finish the TLS handshake within {HANDSHAKE_TIMEOUT:?}")]
    Slow(SocketAddr),
    #[error("{0} speaks HTTP where TLS is spoken; give that client --tlsverify")]
    NotTls(SocketAddr),
    #[error("the TLS handshake with {peer} failed: {source}")]
    Failed { peer: SocketAddr, source: io::Error },
}

impl Listener {
    /// The clients of a unix socket: whom its file's mode lets in.
    pub fn unix(listener: UnixListener) -> Self {
        Self {
            kind: Kind::Unix(listener),
            places: Places::new(UNIX_CONNECTIONS),
        }
    }

    /// The clients of a TCP port; with `tls`, those whom it lets in, and without it everybody. When it changes, those who come
    /// then have the new one, and the others go on.
    pub fn tcp(listener: TcpListener, tls: Option<watch::Receiver<Arc<ServerConfig>>>) -> Self {
        Self {
            kind: Kind::Tcp(TcpPort {
                listener,
                tls,
                handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            }),
            places: Places::new(TCP_CONNECTIONS),
        }
    }

    /// The next client; may be dropped while it waits.
    pub(crate) async fn accept(&self) -> io::Result<Incoming> {
        let place = self.places.take().await?;
        match &self.kind {
            Kind::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Incoming {
                    socket: Socket::Unix(stream),
                    tls: None,
                    place,
                    handshake: None,
                })
            }
            Kind::Tcp(port) => port.accept(place).await,
        }
    }
}

impl TcpPort {
    async fn accept(&self, place: Place) -> io::Result<Incoming> {
        let handshake = match self.tls {
            Some(_) => Some(permit(&self.handshakes).await?),
            None => None,
        };
        let (stream, peer) = self.listener.accept().await?;
        // Answers are short, and a terminal's echo must not wait for more.
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, IDLE)?;
        Ok(Incoming {
            socket: Socket::Tcp(stream, peer),
            tls: self.tls.as_ref().map(|tls| Arc::clone(&tls.borrow()).into()),
            place,
            handshake,
        })
    }
}

impl Places {
    fn new(most: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(descriptors / DESCRIPTORS_EACH).unwrap_or(usize::MAX);
        let all = most.min(share).max(1);
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    async fn take(&self) -> io::Result<Place> {
        let held = permit(&self.free).await?;
        let many_left = self.free.available_permits() >= self.all / LAST_PLACES_PART;
        Ok(Place {
            _held: held,
            patience: if many_left { PATIENCE } else { LITTLE_PATIENCE },
        })
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore)
        .acquire_owned()
        .await
        .map_err(io::Error::other)
}

impl Incoming {
    /// The connection, once it is known who the client is.
    pub(crate) async fn establish(self) -> Result<Connection, HandshakeError> {
        let stream = match (self.socket, self.tls) {
            (Socket::Unix(stream), _) => Stream::Unix(stream),
            (Socket::Tcp(stream, _), None) => Stream::Tcp(stream),
            (Socket::Tcp(stream, peer), Some(tls)) => {
                let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, peer, &tls)).await;
                Stream::Tls(Box::new(shaken.map_err(|_| HandshakeError::Slow(peer))??))
            }
        };
        drop(self.handshake);
        Ok(Connection {
            stream,
            place: Some(self.place),
        })
    }
}

async fn handshake(
    mut stream: TcpStream,
    peer: SocketAddr,
    tls: &TlsAcceptor,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let failed = |source| HandshakeError::Failed { peer, source };
    let mut first = [0];
    // A TLS handshake begins with byte 22 (RFC 8446, section 5.1), an HTTP request with a method's first letter.
    if stream.peek(&mut first).await.map_err(failed)? == 1 && first[0].is_ascii_uppercase() {
        // It may be gone already: then nobody misses the answer.
        let _ = stream.write_all(NOT_TLS).await;
        let _ = stream.shutdown().await;
        return Err(HandshakeError::NotTls(peer));
    }
    tls.accept(stream).await.map_err(failed)
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self {
            stream: Stream::Unix(stream),
            place: None,
        }
    }
}

impl Connection {
    /// How long the client may take to send the head of a request.
    pub(crate) fn patience(&self) -> Duration {
        self.place.as_ref().map_or(PATIENCE, |place| place.patience)
    }

    /// Whether it is a unix socket, and no TCP one.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
