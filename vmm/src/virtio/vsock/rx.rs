//! Packets for the guest (its receive queue).

use vm_memory::GuestMemoryMmap;

use super::chain::Packet;
use super::multiplexer::Multiplexer;
use super::packet::{HEADER_LEN, Header, op};
use crate::virtio::queue::{QueueError, Virtqueue};

/// The most bytes that one connection sends before it is the next one's turn.
const TURN: usize = 128 << 10;

/// The most buffers of the guest that one read from a socket fills; Linux posts buffers of 4 KiB.
const BATCH: usize = 32;

/// The most pieces of memory that one read from a socket fills (`IOV_MAX` is 1024, and a buffer has at most 64).
const PIECES: usize = 960;

/// The most packets that are sent in one go, so that other events get their turn, too.
const BUDGET: usize = 1024;

/// How [`Multiplexer::fill`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Nothing is left to be sent.
    Done,
    /// The guest has no buffers left.
    NoBuffers,
    /// There is more to do.
    More,
}

/// What came of one turn of a connection.
enum Turn {
    Sent(usize),
    Nothing,
    NoBuffers,
}

impl Multiplexer {
    /// Sends what waits to be sent, as far as the guest has buffers for it.
    pub fn fill(&mut self, queue: &mut Virtqueue) -> Result<Filled, QueueError> {
        let memory = queue.memory().clone();
        let mut budget = BUDGET;
        while budget > 0 {
            let turn = match self.refusals.front() {
                Some(&refusal) => {
                    let sent = send_header(queue, &memory, || Some(refusal))?;
                    if let Turn::Sent(_) = sent {
                        self.refusals.pop_front();
                    }
                    sent
                }
                None => match self.line.front() {
                    Some(&token) => self.take_turn(token, queue, &memory)?,
                    None => return Ok(Filled::Done),
                },
            };
            match turn {
                Turn::Sent(packets) => budget = budget.saturating_sub(packets),
                Turn::Nothing => {}
                Turn::NoBuffers => return Ok(Filled::NoBuffers),
            }
        }
        Ok(Filled::More)
    }

    /// Lets the first in line send; it goes back to the end of the line if it has more, and leaves it if not.
    fn take_turn(
        &mut self,
        token: u64,
        queue: &mut Virtqueue,
        memory: &GuestMemoryMmap,
    ) -> Result<Turn, QueueError> {
        let Some(connection) = self.connections.get_mut(&token) else {
            self.line.pop_front();
            return Ok(Turn::Nothing);
        };
        let window = connection.window();
        let turn = if window > 0 {
            send_data(queue, memory, connection, window)?
        } else if connection.has_something() {
            send_header(queue, memory, || connection.take_packet())?
        } else {
            Turn::Nothing
        };
        if !matches!(turn, Turn::NoBuffers) {
            self.line.pop_front();
            connection.queued = false;
            self.enqueue(token);
        }
        Ok(turn)
    }
}

/// Sends the packet that `take` returns once there is a buffer for it.
fn send_header(
    queue: &mut Virtqueue,
    memory: &GuestMemoryMmap,
    take: impl FnOnce() -> Option<Header>,
) -> Result<Turn, QueueError> {
    let Some(packet) = next_buffer(queue, memory)? else {
        return Ok(Turn::NoBuffers);
    };
    let Some(header) = take() else {
        queue.undo_pop();
        return Ok(Turn::Nothing);
    };
    packet.set_header(header);
    queue.add_used(packet.head, HEADER_LEN as u32)?;
    Ok(Turn::Sent(1))
}

/// Reads from the connection's socket straight into as many buffers of the guest as one turn may fill.
fn send_data(
    queue: &mut Virtqueue,
    memory: &GuestMemoryMmap,
    connection: &mut super::connection::Connection,
    window: usize,
) -> Result<Turn, QueueError> {
    let limit = window.min(TURN);
    let Some(first) = next_buffer(queue, memory)? else {
        return Ok(Turn::NoBuffers);
    };
    let mut parts = Vec::with_capacity(BATCH);
    let mut room = first.payload(limit, &mut parts);
    let mut packets = vec![first];
    while room < limit && packets.len() < BATCH && parts.len() < PIECES {
        let Some(chain) = queue.pop()? else { break };
        // One that is no buffer is dealt with when it is first.
        let packet = Packet::writable(memory, chain).filter(|packet| packet.capacity() > 0);
        let Some(packet) = packet else {
            queue.undo_pop();
            break;
        };
        room += packet.payload(limit - room, &mut parts);
        packets.push(packet);
    }
    let mut left = connection.read_into(&parts).unwrap_or_default();
    let mut sent = 0;
    for packet in &packets {
        let len = left.min(packet.capacity());
        if len == 0 {
            queue.undo_pop();
            continue;
        }
        left -= len;
        sent += 1;
        packet.set_header(Header {
            len: len as u32,
            ..connection.header(op::RW)
        });
        queue.add_used(packet.head, (HEADER_LEN + len) as u32)?;
    }
    Ok(if sent == 0 {
        Turn::Nothing
    } else {
        Turn::Sent(sent)
    })
}

/// The guest's next buffer that can hold a header and a byte of payload. Others go back to it unused.
fn next_buffer<'m>(
    queue: &mut Virtqueue,
    memory: &'m GuestMemoryMmap,
) -> Result<Option<Packet<'m>>, QueueError> {
    // A guest that posts unusable buffers without end is not waited for longer than it takes to look at all of them.
    for _ in 0..u16::MAX {
        let Some(chain) = queue.pop()? else {
            return Ok(None);
        };
        let head = chain.head_index();
        match Packet::writable(memory, chain) {
            Some(packet) if packet.capacity() > 0 => return Ok(Some(packet)),
            _ => queue.add_used(head, 0)?,
        }
    }
    Ok(None)
}
