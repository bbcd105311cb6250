//! Many byte streams over the one channel between the host and the helper VM.
//!
//! The channel is a virtio-serial port: it needs no address, no token and no vhost module on the host, and
//! nobody but QEMU and the agent can reach it. Yamux gives each stream a window of its own, so that a slow
//! reader stops its own sender and nobody else's, and carries the end of each direction by itself.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Streams that the host has open at a time. In each, a peer can make this side keep 256 KiB.
pub const MAX_STREAMS: usize = 1024;
/// Streams that the VM takes. It learns late of those that the host has given up, and one too many ends the link.
const MAX_STREAMS_OF_GUEST: usize = 4 * MAX_STREAMS;
/// Payload of a frame. One virtqueue buffer holds 32 KiB of it, larger frames delay other streams.
const FRAME_PAYLOAD: usize = 64 * 1024;
/// Bytes moved at a time between a stream and a local socket.
pub(crate) const COPY_BUFFER: usize = 64 * 1024;

/// One stream of the link. Shutting down its writing side leaves the other direction open.
pub type LinkStream = Compat<yamux::Stream>;

/// Which end of the link this is; they number their streams differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// The supervisor.
    Host,
    /// The agent.
    Guest,
}

/// Why the link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end is gone.
    #[error("the link to the helper VM is closed")]
    Closed,
    /// The channel failed, or carried something that is not the link's protocol.
    #[error("the link to the helper VM failed: {0}")]
    Broken(#[from] yamux::ConnectionError),
}

/// Opens streams to the other end.
#[derive(Clone)]
pub struct Opener {
    requests: mpsc::Sender<oneshot::Sender<LinkStream>>,
}

impl Opener {
    /// Open a stream. The other end learns of it with the first bytes.
    pub async fn open(&self) -> Result<LinkStream, LinkError> {
        let (reply, stream) = oneshot::channel();
        self.requests.send(reply).await.map_err(|_| LinkError::Closed)?;
        stream.await.map_err(|_| LinkError::Closed)
    }
}

/// Set the link up over `channel`.
///
/// Returns what opens streams, what yields the streams that the other end opened, and the future that moves
/// the bytes: nothing happens unless it is polled, and it ends when the link does.
pub fn link<T>(
    channel: T,
    end: LinkEnd,
) -> (
    Opener,
    mpsc::Receiver<LinkStream>,
    impl Future<Output = LinkError>,
)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mode, max_streams) = match end {
        LinkEnd::Host => (yamux::Mode::Client, MAX_STREAMS),
        LinkEnd::Guest => (yamux::Mode::Server, MAX_STREAMS_OF_GUEST),
    };
    let mut config = yamux::Config::default();
    // No stream's window grows: there is no more than the first one of each.
    let max_window = Some(max_streams * yamux::DEFAULT_CREDIT as usize);
    // In this order, for neither may contradict the other on the way.
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(max_streams);
    config.set_max_connection_receive_window(max_window);
    config.set_split_send_size(FRAME_PAYLOAD);
    let (requests, opening) = mpsc::channel(MAX_STREAMS);
    // Never full: the connection itself refuses more.
    let (incoming, accepted) = mpsc::channel(max_streams);
    let mut driver = Driver {
        connection: yamux::Connection::new(channel.compat(), config, mode),
        opening,
        waiting: VecDeque::new(),
        incoming,
    };
    (Opener { requests }, accepted, async move {
        poll_fn(|cx| driver.poll(cx)).await
    })
}

struct Driver<T> {
    connection: yamux::Connection<Compat<T>>,
    opening: mpsc::Receiver<oneshot::Sender<LinkStream>>,
    waiting: VecDeque<oneshot::Sender<LinkStream>>,
    incoming: mpsc::Sender<LinkStream>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        while let Poll::Ready(Some(request)) = self.opening.poll_recv(cx) {
            self.waiting.push_back(request);
        }
        while !self.waiting.is_empty() {
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    if let Some(request) = self.waiting.pop_front() {
                        // The caller may have given up meanwhile; then the stream is dropped and reset.
                        let _ = request.send(stream.compat());
                    }
                }
                // That one caller is told that it is closed; the others go on.
                Poll::Ready(Err(yamux::ConnectionError::TooManyStreams)) => drop(self.waiting.pop_front()),
                Poll::Ready(Err(e)) => return Poll::Ready(e.into()),
                Poll::Pending => break,
            }
        }
        loop {
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    let _ = self.incoming.try_send(stream.compat());
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(e.into()),
                Poll::Ready(None) => return Poll::Ready(LinkError::Closed),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Join two byte streams until both directions have ended; the end of one direction is passed on by itself.
pub async fn splice<A, B>(a: &mut A, b: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    tokio::io::copy_bidirectional_with_sizes(a, b, COPY_BUFFER, COPY_BUFFER)
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::LocalSet;
    use tokio::time::timeout;

    /// Both ends of a link over a pipe of the size of a few virtqueue buffers.
    fn ends() -> (Opener, mpsc::Receiver<LinkStream>) {
        let (a, b): (DuplexStream, DuplexStream) = tokio::io::duplex(32 * 1024);
        let (host, _, drive_host) = link(a, LinkEnd::Host);
        let (guest, accepted, drive_guest) = link(b, LinkEnd::Guest);
        tokio::task::spawn_local(drive_host);
        tokio::task::spawn_local(async move {
            let _keep = guest;
            drive_guest.await
        });
        (host, accepted)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            timeout(Duration::from_secs(20), test)
                .await
                .expect("the link stalled");
        });
    }

    #[test]
    fn the_end_of_one_direction_leaves_the_other_open() {
        run(async {
            let (host, mut accepted) = ends();
            let mut out = host.open().await.unwrap();
            out.write_all(b"question").await.unwrap();
            out.shutdown().await.unwrap();
            let mut inside = accepted.recv().await.unwrap();
            let mut question = String::new();
            inside.read_to_string(&mut question).await.unwrap();
            inside.write_all(b"answer").await.unwrap();
            inside.shutdown().await.unwrap();
            let mut answer = String::new();
            out.read_to_string(&mut answer).await.unwrap();
            assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        });
    }

    #[test]
    fn a_reader_that_stops_holds_up_its_own_stream_only() {
        run(async {
            let (host, mut accepted) = ends();
            let mut slow = host.open().await.unwrap();
            let stalled = tokio::task::spawn_local(async move {
                let block = vec![7; 64 * 1024];
                let mut sent = 0;
                while timeout(Duration::from_millis(300), slow.write_all(&block))
                    .await
                    .is_ok()
                {
                    sent += block.len();
                    assert!(sent < 16 << 20, "nothing stopped the sender");
                }
                slow
            });
            let _never_read = accepted.recv().await.unwrap();
            let _still_open = stalled.await.unwrap();
            let mut quick = host.open().await.unwrap();
            quick.write_all(b"ping").await.unwrap();
            let mut inside = accepted.recv().await.unwrap();
            let mut word = [0; 4];
            inside.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"ping");
        });
    }

    #[test]
    fn ten_megabytes_cross_unchanged_on_four_streams_at_once() {
        run(async {
            let (host, mut accepted) = ends();
            let mut tasks = Vec::new();
            for seed in 0..4u32 {
                let mut stream = host.open().await.unwrap();
                tasks.push(tokio::task::spawn_local(async move {
                    let data: Vec<u8> = (0..10u32 << 18)
                        .map(|i| (i.wrapping_mul(31) ^ seed) as u8)
                        .collect();
                    let (mut from, mut to) = tokio::io::split(&mut stream);
                    let send = async {
                        to.write_all(&data).await.unwrap();
                        to.shutdown().await.unwrap();
                    };
                    let mut back = Vec::new();
                    let ((), read) = tokio::join!(send, from.read_to_end(&mut back));
                    read.unwrap();
                    assert!(back == data, "stream {seed} came back changed");
                }));
            }
            for _ in 0..4 {
                let mut inside = accepted.recv().await.unwrap();
                tokio::task::spawn_local(async move {
                    let (mut from, mut to) = tokio::io::split(&mut inside);
                    tokio::io::copy(&mut from, &mut to).await.unwrap();
                    to.shutdown().await.unwrap();
                });
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    #[test]
    fn opening_after_the_other_end_is_gone_fails() {
        run(async {
            let (a, b) = tokio::io::duplex(1024);
            let (host, _accepted, drive) = link(a, LinkEnd::Host);
            drop(b);
            let driving = tokio::task::spawn_local(drive);
            assert!(matches!(
                driving.await.unwrap(),
                LinkError::Closed | LinkError::Broken(_)
            ));
            assert!(matches!(host.open().await, Err(LinkError::Closed)));
        });
    }
}
