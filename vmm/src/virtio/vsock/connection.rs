//! One connection: a unix socket at one end, a socket of the guest at the other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use vm_memory::VolatileSlice;

use super::chain::copy_rest;
use super::credit::{Inbound, Outbound};
use super::packet::{HOST_CID, Header, STREAM, op, shutdown};
use super::transfer;

/// The ports of a connection; the guest's context id is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// The port on the host.
    pub host: u32,
    /// The port in the guest.
    pub guest: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A client on the host has connected and has not yet said to which port.
    Greeting,
    /// The guest was asked, or is about to be asked, to accept.
    Requested,
    /// Data may flow.
    Established,
    /// The guest is done with it; what it sent last still has to reach the host.
    Draining,
}

/// The connection cannot go on; the guest is told by a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What a connection has to say to the guest, besides data.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    request: bool,
    response: bool,
    credit_update: bool,
    credit_request: bool,
}

/// A connection.
pub struct Connection {
    stream: UnixStream,
    /// How far it is.
    pub phase: Phase,
    /// Its ports, from the moment they are known.
    pub ports: Ports,
    /// Whether it waits in line to send to the guest.
    pub queued: bool,
    guest_cid: u64,
    inbound: Inbound,
    outbound: Outbound,
    // From the guest, and not yet taken by the host; at most the credit that the guest was given.
    pending: VecDeque<u8>,
    // The socket may have data: it had at the last event, and no read has failed since.
    readable: bool,
    // Directions that are over, as flags of a SHUTDOWN of the respective side.
    guest_shut: u32,
    host_shut: u32,
    told_guest: u32,
    owed: Owed,
    // The guest was asked for credit since it last had none.
    asked_credit: bool,
}

impl Connection {
    /// A connection over `stream`, whose guest may send `capacity` bytes ahead of the host.
    pub fn new(stream: UnixStream, phase: Phase, ports: Ports, guest_cid: u64, capacity: u32) -> Connection {
        Connection {
            stream,
            phase,
            ports,
            queued: false,
            guest_cid,
            inbound: Inbound::new(capacity),
            outbound: Outbound::default(),
            pending: VecDeque::new(),
            readable: true,
            guest_shut: 0,
            host_shut: 0,
            told_guest: 0,
            owed: Owed::default(),
            asked_credit: false,
        }
    }

    /// The unix socket.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// A client on the host named the guest's port: ask the guest to accept.
    pub fn request(&mut self, ports: Ports) {
        self.ports = ports;
        self.phase = Phase::Requested;
        self.owed.request = true;
    }

    /// The guest connected to a port of the host that has a socket: accept.
    pub fn accept(&mut self) {
        self.phase = Phase::Established;
        self.owed.response = true;
    }

    /// The guest accepted: tell the client on the host.
    pub fn accepted(&mut self) -> Result<(), Broken> {
        let line = format!("OK {}\n", self.ports.guest);
        // Nothing was written to this socket before, so it has room.
        (&self.stream).write_all(line.as_bytes()).map_err(|_| Broken)?;
        self.phase = Phase::Established;
        Ok(())
    }

    /// Takes over what the guest says of its buffer in each header.
    pub fn update_credit(&mut self, header: &Header) {
        self.outbound.update(header.buf_alloc, header.fwd_cnt);
        if self.outbound.free() > 0 {
            self.asked_credit = false;
        }
    }

    /// The guest wants to know how much it may send.
    pub fn owe_credit_update(&mut self) {
        self.owed.credit_update = true;
    }

    /// Passes data of the guest on to the host; what the socket does not take is kept.
    pub fn deliver(&mut self, parts: &[VolatileSlice], len: u32) -> Result<(), Broken> {
        if self.phase != Phase::Established || self.guest_shut & shutdown::SEND != 0 {
            return Err(Broken);
        }
        self.inbound.receive(len).map_err(|_| Broken)?;
        if self.host_shut & shutdown::RECEIVE != 0 {
            // Nobody reads any more, and the guest has been told.
            self.inbound.forward(len as usize);
            return Ok(());
        }
        let mut sent = 0;
        if self.pending.is_empty() {
            match transfer::send(self.stream.as_fd(), parts) {
                Ok(bytes) => sent = bytes,
                Err(error) if is_transient(&error) => {}
                Err(_) => {
                    self.inbound.forward(len as usize);
                    self.host_stopped_reading();
                    return Ok(());
                }
            }
        }
        self.inbound.forward(sent);
        copy_rest(parts, sent, &mut self.pending);
        Ok(())
    }

    /// Passes on what was kept, as far as the socket takes it.
    pub fn flush(&mut self) {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match (&self.stream).write(front) {
                Ok(written) => {
                    self.pending.drain(..written);
                    self.inbound.forward(written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.inbound.forward(self.pending.len());
                    self.pending.clear();
                    self.host_stopped_reading();
                }
            }
        }
        // A connection that once stalled need not keep its buffer.
        self.pending.shrink_to_fit();
        if self.guest_shut & shutdown::SEND != 0 {
            self.end_host_reads();
        }
    }

    /// The guest stops sending, receiving or both.
    pub fn guest_shuts(&mut self, flags: u32) {
        self.guest_shut |= flags & shutdown::BOTH;
        if self.guest_shut & shutdown::SEND != 0 && self.pending.is_empty() {
            self.end_host_reads();
        }
        if self.guest_shut & shutdown::RECEIVE != 0 {
            // The client's writes fail from now on. It may have closed the socket already.
            let _ = self.stream.shutdown(Shutdown::Read);
            self.readable = false;
        }
    }

    /// The guest knows the connection no more. True when there is still data to be passed on to the host.
    pub fn guest_gone(&mut self) -> bool {
        self.phase = Phase::Draining;
        self.guest_shut = shutdown::BOTH;
        !self.pending.is_empty()
    }

    /// Whether all that the guest had to say has reached the host and the guest has closed both directions.
    pub fn is_finished(&self) -> bool {
        self.guest_shut == shutdown::BOTH && self.pending.is_empty()
    }

    /// The socket may have data, or its end may have come.
    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// The client on the host closed the socket: nothing can be passed on to it.
    pub fn host_closed(&mut self) {
        self.inbound.forward(self.pending.len());
        self.pending.clear();
        self.host_stopped_reading();
    }

    fn host_stopped_reading(&mut self) {
        self.host_shut |= shutdown::RECEIVE;
    }

    fn end_host_reads(&mut self) {
        // Fails only when the client has closed the socket, which comes to the same.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// How many bytes may be read from the socket for the guest; 0 when there is no point in trying.
    pub fn window(&mut self) -> usize {
        let open = self.phase == Phase::Established
            && self.readable
            && self.host_shut & shutdown::SEND == 0
            && self.guest_shut & shutdown::RECEIVE == 0;
        if !open || self.owed.response {
            return 0;
        }
        let free = self.outbound.free();
        if free == 0 && !self.asked_credit {
            self.asked_credit = true;
            self.owed.credit_request = true;
        }
        free as usize
    }

    /// Reads from the socket into guest memory; `None` when there is nothing (any more).
    pub fn read_into(&mut self, parts: &[VolatileSlice]) -> Option<usize> {
        match transfer::receive(self.stream.as_fd(), parts) {
            Ok(0) => {
                self.host_shut |= shutdown::SEND;
                None
            }
            Ok(len) => {
                self.outbound.send(len);
                Some(len)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read_into(parts),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            // The client vanished with unread data of the guest in its socket.
            Err(_) => {
                self.host_shut = shutdown::BOTH;
                None
            }
        }
    }

    /// Whether there is anything to send to the guest.
    pub fn has_something(&mut self) -> bool {
        self.window() > 0 || self.next_op().is_some()
    }

    fn next_op(&self) -> Option<u16> {
        match self.phase {
            Phase::Greeting | Phase::Draining => None,
            Phase::Requested => self.owed.request.then_some(op::REQUEST),
            Phase::Established if self.owed.response => Some(op::RESPONSE),
            Phase::Established if self.host_shut != self.told_guest => Some(op::SHUTDOWN),
            Phase::Established if self.owed.credit_request => Some(op::CREDIT_REQUEST),
            Phase::Established if self.owed.credit_update || self.inbound.update_due() => {
                Some(op::CREDIT_UPDATE)
            }
            Phase::Established => None,
        }
    }

    /// The next packet without payload for the guest. Taking it counts as having sent it.
    pub fn take_packet(&mut self) -> Option<Header> {
        let op = self.next_op()?;
        let mut header = self.header(op);
        match op {
            op::REQUEST => self.owed.request = false,
            op::RESPONSE => self.owed.response = false,
            op::CREDIT_REQUEST => self.owed.credit_request = false,
            op::SHUTDOWN => {
                header.flags = self.host_shut;
                self.told_guest = self.host_shut;
            }
            _ => {}
        }
        Some(header)
    }

    /// A header of this connection. It tells the guest its credit, whatever else it is for.
    pub fn header(&mut self, op: u16) -> Header {
        let (buf_alloc, fwd_cnt) = self.inbound.announce();
        self.owed.credit_update = false;
        Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            src_port: self.ports.host,
            dst_port: self.ports.guest,
            kind: STREAM,
            op,
            buf_alloc,
            fwd_cnt,
            ..Header::default()
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
