//! A character device (a virtio-serial port, a terminal's master) as an asynchronous byte stream.
//!
//! tokio's own streams take a short read for a sign that nothing is left to read. These devices hand out one
//! buffer at a time and have more, so each read here goes on until the device says that it would block.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An open device that supports `poll`.
pub(super) struct AsyncFile(AsyncFd<OwnedFd>);

impl AsyncFile {
    /// Take a device over; it becomes non-blocking.
    pub(super) fn new(device: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&device)?;
        rustix::fs::fcntl_setfl(&device, flags | OFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned and moved in here. Nothing takes it out or replaces it, so it is
        // open and the same until the registration is dropped with it.
        let registered = unsafe { AsyncFd::register(device) };
        Ok(AsyncFile(registered?))
    }
}

impl AsFd for AsyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl AsyncRead for AsyncFile {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let read = guard.try_io(|fd| Ok(rustix::io::read(fd, buffer.initialize_unfilled())?));
            match read {
                Ok(Ok(n)) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // A terminal's master says so when the last process has closed the other side.
                Ok(Err(e)) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for AsyncFile {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::OpenptFlags;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn all_that_a_terminal_holds_is_read_though_each_read_is_short() {
        const TOTAL: usize = 256 * 1024;
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let path = std::path::PathBuf::from(name.to_str().unwrap());
        let mut slave = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let writer = std::thread::spawn(move || io::Write::write_all(&mut slave, &[b'x'; TOTAL]).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let read = runtime.block_on(async {
            let mut master = AsyncFile::new(master).unwrap();
            master.write_all(b"").await.unwrap();
            let mut all = Vec::new();
            // The master's end: the writer closed the other side.
            tokio::time::timeout(Duration::from_secs(20), master.read_to_end(&mut all))
                .await
                .map(|_| all.len())
        });
        writer.join().unwrap();
        assert_eq!(read.expect("the reader stalled"), TOTAL);
    }
}
