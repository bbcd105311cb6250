//! Frames from the host to the driver (virtio 1.3, section 5.1.6.4).

use std::collections::VecDeque;
use std::io;

use vm_memory::{Bytes, GuestAddress, GuestMemory as _, GuestMemoryMmap};

use super::tap::Tap;
use super::{HEADER_LEN, MAX_FRAME};
use crate::virtio::queue::{DescriptorChain, QueueError, Virtqueue};
use crate::virtio::vectors::MAX_VECTORS;

/// Where a header has the number of chains that its frame fills.
const NUM_BUFFERS: usize = 10;

/// The buffers that the driver has offered for frames to come.
pub(super) struct Receiver {
    offered: VecDeque<Offered>,
    /// Whether a frame may fill several chains (VIRTIO_NET_F_MRG_RXBUF).
    mergeable: bool,
}

/// A chain of buffers.
struct Offered {
    head: u16,
    /// Ranges of guest memory; none, if the driver named others.
    parts: Vec<(GuestAddress, usize)>,
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
            offered: VecDeque::new(),
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
        self.offered.drain(..).for_each(|_| queue.undo_pop());
    }

    /// Takes as many chains as the largest frame fills. False, when the driver has not offered as many.
    fn fill(&mut self, queue: &mut Virtqueue) -> Result<bool, QueueError> {
        while !self.is_filled(queue.size()) {
            let Some(chain) = queue.pop()? else {
                return Ok(false);
            };
            self.offered.push_back(Offered::new(chain));
        }
        Ok(true)
    }

    fn is_filled(&self, queue_size: u16) -> bool {
        if !self.mergeable {
            return !self.offered.is_empty();
        }
        let sum = |of: fn(&Offered) -> usize| self.offered.iter().map(of).sum::<usize>();
        // A driver with nothing but tiny buffers gets tiny frames.
        sum(|offered| offered.len) >= MAX_FRAME
            || sum(|offered| offered.parts.len()) >= MAX_VECTORS
            || self.offered.len() >= usize::from(queue_size)
    }

    /// Reads a frame to the buffers, and says in its header how many chains it fills.
    fn read(&self, memory: &GuestMemoryMmap, tap: &Tap) -> io::Result<usize> {
        let parts = self.offered.iter().flat_map(|offered| &offered.parts);
        let slices = parts
            .take(MAX_VECTORS)
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
        let filled = self.offered.iter().take_while(|offered| {
            let more = left > 0;
            left = left.saturating_sub(offered.len);
            more
        });
        // At most a queue of them.
        filled.count().max(1) as u16
    }

    /// Where byte `offset` of the buffers is.
    fn address(&self, mut offset: usize) -> Option<GuestAddress> {
        for (address, len) in self.offered.iter().flat_map(|offered| &offered.parts) {
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
        let count = usize::from(self.chains_of(len)).min(self.offered.len());
        let used: Vec<_> = self
            .offered
            .drain(..count)
            .map(|offered| {
                let written = left.min(offered.len);
                left -= written;
                // A frame has less than 64 KiB and a header.
                (offered.head, written as u32)
            })
            .collect();
        queue.add_used_together(&used)
    }
}

impl Offered {
    fn new(chain: DescriptorChain) -> Self {
        let head = chain.head_index();
        let memory = chain.memory();
        let parts: Vec<_> = chain
            .clone()
            .writable()
            .map(|descriptor| (descriptor.addr(), descriptor.len() as usize))
            .filter(|(_, len)| *len > 0)
            .take(MAX_VECTORS)
            .collect();
        let valid = parts
            .iter()
            .all(|(address, len)| memory.get_slice(*address, *len).is_ok());
        let parts = if valid { parts } else { Vec::new() };
        let len = parts.iter().map(|(_, len)| len).sum();
        Self { head, parts, len }
    }
}

const _: () = assert!(NUM_BUFFERS + size_of::<u16>() == HEADER_LEN);
