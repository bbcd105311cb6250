//! Bytes between a unix socket and guest memory, without a buffer in between and without ever blocking.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

use crate::virtio::vectors::vectors;

/// Receives into `parts`, in order; 0 at the end of the stream. `parts` are at most 1024 (`IOV_MAX`).
///
/// # Errors
/// `WouldBlock` when nothing is there.
pub fn receive(socket: BorrowedFd, parts: &[VolatileSlice]) -> io::Result<usize> {
    let mut vectors = vectors(parts);
    let mut message = message(&mut vectors);
    // SAFETY: each vector names the memory of a slice that outlives the call. It is guest memory: the kernel may write
    // to it as the guest may, and nothing in Rust refers to it.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Sends `parts`, in order; returns how many bytes went. `parts` are at most 1024 (`IOV_MAX`).
///
/// # Errors
/// `WouldBlock` when the socket is full, `BrokenPipe` when the peer does not read any more.
pub fn send(socket: BorrowedFd, parts: &[VolatileSlice]) -> io::Result<usize> {
    let mut vectors = vectors(parts);
    let message = message(&mut vectors);
    // SAFETY: each vector names the memory of a slice that outlives the call; the kernel only reads it.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_raw_fd(),
            &message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn message(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: for the kernel, zeros are a message without address, data and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    message
}
