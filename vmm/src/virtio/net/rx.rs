//! Frames from the host to the driver (virtio 1.3, section 5.1.6.4).

use std::collections::VecDeque;
use std::io;

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, GuestMemoryMmap};

use super::tap::Tap;
use super::{HEADER_LEN, MAX_FRAME};
use crate::virtio::queue::{QueueError, Virtqueue};
use crate::virtio::vectors::MAX_VECTORS;

/// Where a header has the number of chains that its frame fills.
const NUM_BUFFERS: usize = 10;

/// The buffers that the driver has offered for frames to come.
pub(super) struct Receiver {
    /// The chains, in the order in which they were offered.
    chains: VecDeque<Chain>,
    /// Their ranges of guest memory, one after the other: a frame fills tens of chains, and goes to them all at once.
    parts: VecDeque<(GuestAddress, usize)>,
    /// How many bytes there is room for.
    room: usize,
    /// Whether a frame may fill several chains (VIRTIO_NET_F_MRG_RXBUF).
    mergeable: bool,
}

/// A chain of buffers.
struct Chain {
    head: u16,
    /// How many ranges of guest memory it has; none, if the driver named others.
    parts: usize,
    /// How many bytes they have together.
    len: usize,
}

/// What became of an attempt to receive.
pub(super) enum Received {
    /// A frame of so many bytes, header included.
    Frame(usize),
    /// The driver has too few buffers for any frame.
    NoBuffers,
    /// The host has no frame.
    Nothing,
}

impl Receiver {
    pub(super) fn new(mergeable: bool) -> Self {
        Self {
            chains: VecDeque::new(),
            parts: VecDeque::new(),
            room: 0,
            mergeable,
        }
    }

    /// Receives one frame.
    pub(super) fn receive(&mut self, queue: &mut Virtqueue, tap: &Tap) -> Result<Received, QueueError> {
        if !self.fill(queue)? {
            return Ok(Received::NoBuffers);
        }
        loop {
            return match self.read(queue.memory(), tap) {
                Ok(len) => {
                    self.give_back(queue, len)?;
                    Ok(Received::Frame(len))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The driver's buffers would not do, not even for a header: that is the frame's end.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EFAULT)) => {
                    self.give_back(queue, 0)?;
                    Ok(Received::Frame(0))
                }
                // There is none, or its interface is gone.
                Err(_) => Ok(Received::Nothing),
            };
        }
    }

    /// Leaves the buffers that nothing came for to whoever serves the queue next.
    pub(super) fn undo(&mut self, queue: &mut Virtqueue) {
        self.chains.drain(..).for_each(|_| queue.undo_pop());
        self.parts.clear();
        self.room = 0;
    }

    /// Takes as many chains as the largest frame fills. False, when the driver has not offered as many.
    fn fill(&mut self, queue: &mut Virtqueue) -> Result<bool, QueueError> {
        if self.is_filled(queue.size()) {
            return Ok(true);
        }
        let (size, memory) = (queue.size(), queue.memory().clone());
        for chain in queue.available()? {
            self.add(chain, &memory);
            if self.is_filled(size) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_filled(&self, queue_size: u16) -> bool {
        if !self.mergeable {
            return !self.chains.is_empty();
        }
        // A driver with nothing but tiny buffers gets tiny frames.
        self.room >= MAX_FRAME
            || self.parts.len() >= MAX_VECTORS
            || self.chains.len() >= usize::from(queue_size)
    }

    /// Adds a chain behind the others.
    fn add(&mut self, chain: DescriptorChain<&GuestMemoryMmap>, memory: &GuestMemoryMmap) {
        let (head, before) = (chain.head_index(), self.parts.len());
        let mut len = 0;
        let ranges = chain.writable().filter(|range| range.len() > 0);
        for range in ranges.take(MAX_VECTORS) {
            let part = (range.addr(), range.len() as usize);
            if memory.get_slice(part.0, part.1).is_err() {
                self.parts.truncate(before);
                len = 0;
                break;
            }
            self.parts.push_back(part);
            len += part.1;
        }
        let parts = self.parts.len() - before;
        self.room += len;
        self.chains.push_back(Chain { head, parts, len });
    }

    /// Reads a frame to the buffers, and says in its header how many chains it fills.
    fn read(&self, memory: &GuestMemoryMmap, tap: &Tap) -> io::Result<usize> {
        let parts = self.parts.iter().take(MAX_VECTORS);
        let slices = parts
            .map(|(address, len)| memory.get_slice(*address, *len).map_err(io::Error::other))
            .collect::<io::Result<Vec<_>>>()?;
        let len = tap.receive(&slices)?;
        for (offset, byte) in (NUM_BUFFERS..).zip(self.chains_of(len).to_le_bytes()) {
            if let Some(address) = self.address(offset) {
                memory.write_obj(byte, address).map_err(io::Error::other)?;
            }
        }
        Ok(len)
    }

    /// How many chains the first `len` bytes fill.
    fn chains_of(&self, len: usize) -> u16 {
        let mut left = len;
        let filled = self.chains.iter().take_while(|chain| {
            let more = left > 0;
            left = left.saturating_sub(chain.len);
            more
        });
        // At most a queue of them.
        filled.count().max(1) as u16
    }

    /// Where byte `offset` of the buffers is.
    fn address(&self, mut offset: usize) -> Option<GuestAddress> {
        for (address, len) in &self.parts {
            if offset < *len {
                return address.0.checked_add(offset as u64).map(GuestAddress);
            }
            offset -= len;
        }
        None
    }

    /// Returns the chains that a frame of `len` bytes fills.
    fn give_back(&mut self, queue: &mut Virtqueue, len: usize) -> Result<(), QueueError> {
        let mut left = len;
        let count = usize::from(self.chains_of(len)).min(self.chains.len());
        let mut used = Vec::with_capacity(count);
        for chain in self.chains.drain(..count) {
            let written = left.min(chain.len);
            left -= written;
            self.room -= chain.len;
            self.parts.drain(..chain.parts);
            // A frame has less than 64 KiB and a header.
            used.push((chain.head, written as u32));
        }
        queue.add_used_together(&used)
    }
}

const _: () = assert!(NUM_BUFFERS + size_of::<u16>() == HEADER_LEN);
