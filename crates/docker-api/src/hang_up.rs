//! Clients that go.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use crate::listener::Connection;

/// Tells when a client has closed its socket.
///
/// A client that has only ended its input reads as ended, too; only a hang-up, which epoll always reports, tells the two
/// apart. TCP has no such event for a client that just closes: there it comes when the client's kernel refuses output, or
/// a probe of the idle connection. The watch has a descriptor of its own, so that forgetting that it can be written to,
/// which lets the watch sleep, does not make the session forget it.
pub(crate) enum HangUp {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl HangUp {
    pub(crate) fn watch(connection: &Connection) -> io::Result<Self> {
        let watched = connection.as_fd().try_clone_to_owned()?;
        Ok(if connection.is_unix() {
            Self::Unix(UnixStream::from_std(watched.into())?)
        } else {
            Self::Tcp(TcpStream::from_std(watched.into())?)
        })
    }

    pub(crate) async fn wait(&self) {
        while let Ok(ready) = self.writable().await {
            if ready.is_write_closed() {
                return;
            }
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = match self {
                Self::Unix(stream) => stream.try_io(Interest::WRITABLE, forget),
                Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, forget),
            };
        }
    }

    async fn writable(&self) -> io::Result<Ready> {
        match self {
            Self::Unix(stream) => stream.ready(Interest::WRITABLE).await,
            Self::Tcp(stream) => stream.ready(Interest::WRITABLE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_half_close_is_no_hang_up_and_a_close_is_one() {
        let (server, mut client) = UnixStream::pair().unwrap();
        let server = Connection::from(server);
        let hang_up = HangUp::watch(&server).unwrap();
        client.write_all(b"input").await.unwrap();
        client.shutdown().await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), hang_up.wait()).await;
        assert!(waited.is_err(), "a half-close was taken for a hang-up");
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), hang_up.wait())
            .await
            .expect("the hang-up is seen");
    }
}
