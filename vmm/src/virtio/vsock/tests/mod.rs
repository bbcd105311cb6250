//! A guest's driver on one side, real unix sockets on the other.

mod endings;
mod hostile;
mod lifecycle;
mod pressure;
mod streams;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};
use vm_spec::{GuestPort, Resource, VsockSpec};

use super::guest::{CID, Guest, HOST_PORT, RX_LEN, spec};
use super::multiplexer::MAX_CONNECTIONS;
use super::packet::{HEADER_LEN, HOST_CID, Header, op, shutdown};
use super::{Vsock, VsockError};
use crate::virtio::device::VirtioDevice;

const KIB: usize = 1 << 10;

/// Bytes that differ from their neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn dial(guest: &Guest, greeting: &str) -> UnixStream {
    let mut client = UnixStream::connect(guest.dir.path().join("vsock")).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(greeting.as_bytes()).unwrap();
    client
}

/// Connects from the host to port 52 of the guest; returns the client and the host's port.
fn dial_and_accept(guest: &mut Guest) -> (UnixStream, u32) {
    let mut client = dial(guest, "CONNECT 52\n");
    let (request, _) = guest.expect(op::REQUEST);
    assert_eq!(request.dst_port, 52);
    guest.send(Guest::header(52, request.src_port, op::RESPONSE), &[]);
    let mut line = [0; 6];
    client.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"OK 52\n");
    (client, request.src_port)
}
